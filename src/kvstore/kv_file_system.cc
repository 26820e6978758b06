#include "kvstore/kv_file_system.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace narwhal {
namespace {

template <class T>
T or_errno(T result) {
  return result < 0 ? -errno : result;
}

}  // namespace

KvFileSystem& KvFileSystem::system() {
  static KvFileSystem files;
  return files;
}

int KvFileSystem::open_new(const std::string& path) {
  return or_errno(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
}

ssize_t KvFileSystem::write(int fd, const void* data, size_t n_bytes) {
  return or_errno(::write(fd, data, n_bytes));
}

int KvFileSystem::sync(int fd) { return or_errno(::fsync(fd)); }

int KvFileSystem::rename(const std::string& from, const std::string& to) {
  return or_errno(std::rename(from.c_str(), to.c_str()));
}

int KvFileSystem::remove(const std::string& path) { return or_errno(::unlink(path.c_str())); }

}  // namespace narwhal
