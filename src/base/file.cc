#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace narwhal {
namespace {

std::string os_error(const std::string& path, const char* action) {
  return fmt::format("{}: cannot {}: {}", path, action, std::strerror(errno));
}

}  // namespace

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<std::byte*>(data_), size_);
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return bad_input(os_error(path, "open"));
  struct stat st {};
  MappedFile file;
  file.path_ = path;
  Status status;
  if (fstat(fd, &st) != 0) {
    status = bad_input(os_error(path, "read"));
  } else if (!S_ISREG(st.st_mode)) {
    status = bad_input(path + ": not a regular file");
  } else if (st.st_size > 0) {
    void* p = mmap(nullptr, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
      status = bad_input(os_error(path, "map"));
    } else {
      file.data_ = static_cast<const std::byte*>(p);
      file.size_ = st.st_size;
    }
  }
  ::close(fd);
  if (!status.ok()) return status;
  return file;
}

Result<std::string> read_file(const std::string& path) {
  const bool is_stdin = path == "-";
  std::FILE* f = is_stdin ? stdin : std::fopen(path.c_str(), "rb");
  if (!f) return bad_input(os_error(path, "open"));
  std::string text;
  char buffer[1 << 16];
  size_t n = 0;
  while ((n = std::fread(buffer, 1, sizeof buffer, f)) > 0) text.append(buffer, n);
  const bool bad = std::ferror(f) != 0;
  const std::string error = bad ? os_error(path, "read") : "";
  if (!is_stdin) std::fclose(f);
  if (bad) return bad_input(error);
  return text;
}

Status check_utf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const size_t n = text.size();
  for (size_t i = 0; i < n;) {
    const unsigned c = p[i];
    const size_t len = c < 0x80                ? 1
                       : c >= 0xC2 && c < 0xE0 ? 2
                       : c >= 0xE0 && c < 0xF0 ? 3
                       : c >= 0xF0 && c < 0xF5 ? 4
                                               : 0;
    bool good = len != 0 && i + len <= n;
    for (size_t k = 1; good && k < len; k++) good = (p[i + k] & 0xC0) == 0x80;
    // Overlong forms, surrogates and code points past U+10FFFF show in the second byte.
    if (good && c == 0xE0) good = p[i + 1] >= 0xA0;
    if (good && c == 0xED) good = p[i + 1] < 0xA0;
    if (good && c == 0xF0) good = p[i + 1] >= 0x90;
    if (good && c == 0xF4) good = p[i + 1] < 0x90;
    if (!good) return bad_input(fmt::format("not UTF-8 at byte {}; convert the text to UTF-8", i));
    i += len;
  }
  return ok_status();
}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (fd_ < 0) return;
  ::close(fd_);
  fd_ = -1;
  ::unlink((path_ + ".partial").c_str());
}

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  AtomicFile file;
  const std::string partial = path + ".partial";
  file.fd_ = ::open(partial.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file.fd_ < 0) return failed(os_error(partial, "create"));
  file.path_ = path;
  return file;
}

Status AtomicFile::resize(uint64_t n_bytes) {
  if (ftruncate(fd_, static_cast<off_t>(n_bytes)) != 0) return failed(os_error(path_, "resize"));
  return ok_status();
}

Status AtomicFile::write_at(uint64_t offset, const void* data, size_t n_bytes) {
  constexpr size_t kMaxCall = size_t{1} << 30;  // macOS refuses 2 GiB and more at once
  const auto* p = static_cast<const std::byte*>(data);
  while (n_bytes > 0) {
    const ssize_t n = ::pwrite(fd_, p, std::min(n_bytes, kMaxCall), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed(os_error(path_, "write"));
    p += n;
    offset += n;
    n_bytes -= n;
  }
  return ok_status();
}

Status AtomicFile::commit() {
  if (fsync(fd_) != 0) return failed(os_error(path_, "flush"));
  ::close(std::exchange(fd_, -1));
  if (std::rename((path_ + ".partial").c_str(), path_.c_str()) != 0) {
    Status status = failed(os_error(path_, "rename to"));
    ::unlink((path_ + ".partial").c_str());
    return status;
  }
  return ok_status();
}

}  // namespace narwhal
