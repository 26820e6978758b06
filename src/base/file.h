// Files: mapped for reading, whole as text, and written so that a reader sees all of it or nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "narwhal/status.h"

namespace narwhal {

// A read-only memory mapping. Pages are read by the system when they are first touched, so opening
// an 80 GB file costs nothing. Movable; the bytes live as long as the object. Thread-safe to read.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  // kBadInput when the file is missing, unreadable or not a regular file. An empty file maps to 0
  // bytes.
  static Result<MappedFile> open(const std::string& path);

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::string path_;
};

// The whole file ("-" = standard input) as bytes. kBadInput when it cannot be read.
Result<std::string> read_file(const std::string& path);

// Whether `text` is well-formed UTF-8; on failure the byte offset of the first fault.
Status check_utf8(std::string_view text);

// A file that appears under its name only at commit(): bytes go to "PATH.partial", which is removed
// unless committed. Random access, so tensors may be written in any order and by several threads.
class AtomicFile {
 public:
  AtomicFile() = default;
  AtomicFile(AtomicFile&& other) noexcept { *this = std::move(other); }
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();

  static Result<AtomicFile> create(const std::string& path);

  // Sets the length without writing (a sparse file where the system has them).
  Status resize(uint64_t n_bytes);
  // Thread-safe for disjoint ranges. kFailed on a full disk or an I/O error.
  Status write_at(uint64_t offset, const void* data, size_t n_bytes);
  // Flushes to the device and renames over PATH.
  Status commit();

 private:
  void discard();
  int fd_ = -1;
  std::string path_;
};

}  // namespace narwhal
