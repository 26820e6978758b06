// Writes GGUF v3 files (layout: gguf/reader.h). Declare everything, begin(), write the tensor bytes
// in any order from any thread, finish():
//
//   gguf::Writer w;
//   w.add_string("general.architecture", "deepseek4");
//   const int t = w.add_tensor("output.weight", DType::kQ8_0, {4096, 129280});
//   NW_TRY(w.begin("model.gguf"));
//   NW_TRY(w.write(t, 0, rows.data(), rows.size()));
//   NW_TRY(w.finish());
//
// The file appears under its name only at finish(); a Writer that dies earlier leaves nothing
// behind. Bytes never written read as zero and take no disk space where the system has sparse
// files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "gguf/reader.h"
#include "narwhal/status.h"
#include "tensor/dtype.h"

namespace narwhal::gguf {

// Movable. Only write() may be called from several threads.
class Writer {
 public:
  // `alignment` is a power of two; any but 32 is recorded as general.alignment.
  explicit Writer(uint64_t alignment = 32);

  // Metadata, written in the order of first mention; a repeated key replaces the value.
  void add_u8(std::string_view key, uint8_t v);
  void add_u32(std::string_view key, uint32_t v);
  void add_i32(std::string_view key, int32_t v);
  void add_u64(std::string_view key, uint64_t v);
  void add_i64(std::string_view key, int64_t v);
  void add_f32(std::string_view key, float v);
  void add_f64(std::string_view key, double v);
  void add_bool(std::string_view key, bool v);
  void add_string(std::string_view key, std::string_view v);
  void add_u32s(std::string_view key, std::span<const uint32_t> v);
  void add_i32s(std::string_view key, std::span<const int32_t> v);
  void add_f32s(std::string_view key, std::span<const float> v);
  void add_strings(std::string_view key, std::span<const std::string> v);
  void add_strings(std::string_view key, std::span<const std::string_view> v);
  // A value read from another file, as it stands. general.alignment is passed over.
  void copy(std::string_view key, const Value& v);

  // Declares a tensor of dims[0] (contiguous) x dims[1] ... and returns its index, counted from 0.
  // Tensors lie in the order of declaration. A fault (n_dims not 1..4, a dimension below 1, rows
  // that are not whole blocks, a name used twice) is kept and returned by begin().
  int add_tensor(std::string name, DType type, std::span<const int64_t> dims);
  int add_tensor(std::string name, DType type, std::initializer_list<int64_t> dims) {
    return add_tensor(std::move(name), type, std::span(dims.begin(), dims.size()));
  }
  // A tensor that shares the bytes of tensor `other` from `byte_offset` (a multiple of the
  // alignment) on; it must fit into them. Faults as above.
  int add_alias(std::string name, DType type, std::span<const int64_t> dims, int other,
                uint64_t byte_offset = 0);

  // Writes the header to PATH.partial and sizes the file; nothing may be declared afterwards.
  // kBadInput for a faulty declaration, kFailed when the file cannot be made.
  Status begin(const std::string& path);
  // Bytes [byte_offset, byte_offset + n) of a tensor. Thread-safe for disjoint ranges. kFailed on a
  // full disk or an I/O error.
  Status write(int tensor, uint64_t byte_offset, const void* data, size_t n);
  // Flushes and renames to PATH.
  Status finish();

  int n_tensors() const { return static_cast<int>(tensors_.size()); }
  uint64_t tensor_bytes(int tensor) const;
  // Of the whole file, and of a tensor in it, as declared so far; final from begin() on.
  uint64_t file_bytes() const { return data_offset() + data_bytes_; }
  uint64_t tensor_offset(int tensor) const;

 private:
  struct Meta {
    std::string key, value;  // value = u32 type + payload, as in the file
  };
  struct Info {
    std::string name;
    DType type;
    std::vector<int64_t> dims;
    uint64_t offset;  // from the data section
    uint64_t n_bytes;
  };

  std::string& meta(std::string_view key, ValueType type);
  std::string& meta_array(std::string_view key, ValueType element, uint64_t count);
  int declare(std::string name, DType type, std::span<const int64_t> dims);
  void fault(std::string message);
  uint64_t header_bytes() const;
  uint64_t data_offset() const;
  std::string header() const;

  uint64_t alignment_;
  std::vector<Meta> metadata_;
  std::vector<Info> tensors_;
  std::unordered_map<std::string, int> names_;
  uint64_t data_bytes_ = 0;
  uint64_t data_offset_ = 0;  // set by begin()
  Status fault_;
  AtomicFile file_;
  bool open_ = false;
};

}  // namespace narwhal::gguf
