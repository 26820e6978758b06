// safetensors checkpoints, whole or in shards, as Hugging Face stores them.
//
//   NW_ASSIGN(safetensors::Checkpoint ckpt, safetensors::Checkpoint::open("DeepSeek-V4-Flash/"));
//   const safetensors::Tensor* t = ckpt.find("layers.0.attn.wq_a.weight");  // null when absent
//
// A file is   u64 n (little-endian) | n bytes of JSON | data
// with one member per tensor:
//   "NAME": {"dtype": "BF16", "shape": [out, in], "data_offsets": [begin, end]}   from the data on
// and an optional "__metadata__", which is passed over. A sharded checkpoint is a folder with
//   model.safetensors.index.json = {"weight_map": {"NAME": "model-00001-of-00046.safetensors",
//   ...}}
//
// open() refuses what it could not read safely: a header longer than 100 MB or than the file,
// ranges outside the file or unequal to shape x type, other types, shard names that leave the
// folder. Tensor data is mapped and not touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "narwhal/status.h"

namespace narwhal::safetensors {

enum class SourceType : uint8_t {
  kBF16,
  kF16,
  kF32,
  kF64,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kF8_E4M3,
  kF8_E8M0,
  kBool,
};

// As the header spells it: "BF16", "F8_E4M3", ...
std::string_view source_type_name(SourceType t);
int source_type_bytes(SourceType t);
std::optional<SourceType> source_type_by_name(std::string_view name);

struct Tensor {
  std::string name;
  SourceType type = SourceType::kF32;
  std::vector<int64_t> shape;       // row-major: the last is contiguous; empty for a scalar
  const std::byte* data = nullptr;  // not necessarily aligned to the element: copy out
  uint64_t n_bytes = 0;

  int64_t n_elements() const;  // 1 for a scalar; may be 0
};

// An open checkpoint. Movable; data lives as long as it does (moving keeps it valid). Read-only
// after open, so any number of threads may use it. The files must not be truncated meanwhile.
class Checkpoint {
 public:
  // PATH is a .safetensors file, an index (.json), or a folder holding model.safetensors.index.json
  // or model.safetensors. Of a sharded checkpoint only the tensors named in the index are taken.
  // kBadInput naming the file and the tensor.
  static Result<Checkpoint> open(const std::string& path);
  // One file in memory; `bytes` must outlive the Checkpoint. `name` stands for the path.
  static Result<Checkpoint> from_memory(std::span<const std::byte> bytes, const std::string& name);

  // In name order (bytewise).
  std::span<const Tensor> tensors() const { return tensors_; }
  // Null when absent.
  const Tensor* find(std::string_view name) const;

 private:
  Checkpoint() = default;
  Status add_file(const std::string& path);
  Status add_shards(const std::string& index_path);
  void sort_by_name();

  std::vector<MappedFile> files_;
  std::vector<Tensor> tensors_;
};

}  // namespace narwhal::safetensors
