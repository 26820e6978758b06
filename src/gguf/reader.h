// GGUF v3 files: the container only, without any knowledge of a model.
//
//   NW_ASSIGN(gguf::File file, gguf::File::open("model.gguf"));
//   NW_ASSIGN(const int64_t n_layer, file.get_int("deepseek4.block_count"));
//   const gguf::Tensor* t = file.tensor("token_embd.weight");  // null when absent
//   const std::byte* row = t->data + r * row_bytes(t->type, t->dims[0]);
//
// On disk, all little-endian, nothing padded but the data:
//   magic "GGUF" | u32 version = 3 | u64 n_tensors | u64 n_kv
//   n_kv      x { string key | u32 type | value }       string = u64 n_bytes | bytes
//   n_tensors x { string name | u32 n_dims | u64 dim[n_dims] | u32 dtype | u64 offset }
//   padding to the alignment | data, each tensor at `offset` from here, a multiple of the alignment
// An array value is u32 element type | u64 count | elements. The alignment is the metadata key
// general.alignment, 32 when absent.
//
// open() checks everything it later relies on, so that a hostile file is refused with a Status and
// every span handed out lies inside the file: magic, version, counts and lengths, UTF-8 names,
// value types, alignment, dtype ids, n_dims, products without overflow, whole blocks, offsets,
// unique keys and names. Tensors may lie in any order and may share bytes (synthetic models alias
// experts). Refused besides: big-endian files, versions 1 and 2, nested arrays, split files.
//
// Opening costs one walk over the header; tensor data is never touched.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "gguf/value.h"
#include "narwhal/status.h"
#include "tensor/dtype.h"

namespace narwhal::gguf {

struct KeyValue {
  std::string_view key;
  Value value;
};

struct Tensor {
  std::string name;
  DType type = DType::kF32;
  int n_dims = 0;                              // 1 to 4
  std::array<int64_t, 4> dims = {1, 1, 1, 1};  // dims[0] is contiguous; each >= 1, unused = 1
  uint64_t offset = 0;                         // of `data` in the file
  uint64_t n_bytes = 0;
  // Aligned to alignment() when the file's first byte is (always so for open()).
  const std::byte* data = nullptr;

  int64_t n_elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
  int64_t n_rows() const { return dims[1] * dims[2] * dims[3]; }
};

// An open file. Movable; everything it hands out lives as long as it does (moving keeps it valid).
// Read-only after open, so any number of threads may use it. The file must not be truncated while
// it is open.
class File {
 public:
  // Maps PATH. kBadInput when it cannot be read or is not a valid GGUF v3 file.
  static Result<File> open(const std::string& path);
  // The same for bytes in memory, which must outlive the File. `name` stands for the path.
  static Result<File> from_memory(std::span<const std::byte> bytes, std::string name);

  const std::string& name() const { return name_; }
  uint64_t file_bytes() const { return bytes_.size(); }
  // Past the end in a file without tensors, which need not be padded.
  uint64_t data_offset() const { return data_offset_; }
  uint64_t alignment() const { return alignment_; }

  // In file order.
  std::span<const Tensor> tensors() const { return tensors_; }
  // Null when absent.
  const Tensor* tensor(std::string_view name) const;

  // In file order.
  std::span<const KeyValue> metadata() const { return metadata_; }
  // Null when absent.
  const Value* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }

  // kBadInput when the key is absent or of another kind. Any integer width serves as an int, any
  // integer or float as a float; the lists also accept a scalar as a list of one, as some writers
  // store per-layer constants so.
  Result<int64_t> get_int(std::string_view key) const;
  Result<double> get_float(std::string_view key) const;
  Result<bool> get_bool(std::string_view key) const;
  Result<std::string_view> get_string(std::string_view key) const;
  Result<std::vector<int64_t>> get_ints(std::string_view key) const;
  Result<std::vector<double>> get_floats(std::string_view key) const;
  Result<std::vector<std::string_view>> get_strings(std::string_view key) const;

 private:
  struct Cursor;

  File() = default;
  Status parse();
  Status read_metadata(Cursor& in, uint64_t n_kv);
  Status read_value(Cursor& in, std::string_view key, Value& v) const;
  Status read_elements(Cursor& in, const std::string& where, Value& v) const;
  Status check_metadata();
  Status read_tensors(Cursor& in, uint64_t n_tensors);
  Status read_tensor(Cursor& in, Tensor& t) const;
  Status place_tensors(uint64_t header_bytes);
  Result<const Value*> need(std::string_view key) const;
  Status wrong_type(std::string_view key, const Value& v, std::string_view expected) const;

  std::string name_;
  MappedFile map_;
  std::span<const std::byte> bytes_;
  uint64_t data_offset_ = 0, alignment_ = 32;
  std::vector<KeyValue> metadata_;
  std::vector<Tensor> tensors_;
  // Names point into bytes_, which stay put when the File moves.
  std::unordered_map<std::string_view, size_t> key_index_, tensor_index_;
};

}  // namespace narwhal::gguf
