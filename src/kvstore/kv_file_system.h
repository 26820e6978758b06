// KvFileSystem: the calls through which the store changes files, so that tests can make each of
// them fail. Reading needs no seam: tests damage the files.
//
// Functions return what the system call returns, or -errno. Any thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

namespace narwhal {

class KvFileSystem {
 public:
  virtual ~KvFileSystem() = default;
  static KvFileSystem& system();

  // A file that must not exist yet, 0600, for writing.
  virtual int open_new(const std::string& path);
  virtual ssize_t write(int fd, const void* data, size_t n_bytes);
  virtual int sync(int fd);
  virtual int rename(const std::string& from, const std::string& to);
  virtual int remove(const std::string& path);
};

}  // namespace narwhal
