// The checkpoint seen as the model's matrices: finds each under its name and reads it as f32 rows.
//
//   Sources sources(checkpoint);
//   NW_ASSIGN(const std::vector<SourceMatrix> m, sources.matrices(spec));   // one per expert
//   NW_TRY(m[e].read_row(r, row));
//
// Stored forms: F32, F16 and BF16; F8_E4M3 with one F8_E8M0 scale per 128 x 128 tile; I8 holding
// two FP4 values per byte with one F8_E8M0 scale per 32 of a row (spec: GGUF section 5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/weights.h"
#include "narwhal/status.h"
#include "safetensors/reader.h"

namespace narwhal {

// n_out rows of n_in values; a vector is one row. A view into the checkpoint. Any number of threads
// may read.
struct SourceMatrix {
  enum class Form { kF32, kF16, kBF16, kFp8, kFp4 };

  std::string_view name;  // of the tensor in the checkpoint
  Form form = Form::kF32;
  int64_t n_in = 0, n_out = 1;
  const std::byte* rows = nullptr;
  const std::byte* scales = nullptr;  // kFp8, kFp4: rows of ceil(n_in / 128) or n_in / 32 bytes

  // Row r as dst[n_in], exactly. kBadInput when a value is not finite or a scale is NaN.
  Status read_row(int64_t r, float* dst) const;
  // Row r of a kFp4 matrix as n_in / 32 MXFP4 blocks, without loss.
  Status repack_row(int64_t r, void* mxfp4) const;
};

std::string_view form_name(SourceMatrix::Form form);

class Sources {
 public:
  // `checkpoint` must outlive this and every matrix.
  explicit Sources(const safetensors::Checkpoint& checkpoint);

  // The matrices of a tensor that is not a hash table: one, or one per expert, in order. kBadInput
  // naming the tensor that is missing, of another shape or in a form not known, and what would do.
  Result<std::vector<SourceMatrix>> matrices(const TensorSpec& spec);
  // The hash table [n_vocab, n_experts_used] as i32, row-major. Ids must be in [0, n_experts).
  Result<std::vector<int32_t>> hash_table(const TensorSpec& spec, int n_experts);

  // By name without "model."; asks for nothing.
  bool has(const std::string& name) const { return entries_.contains(name); }
  // Names of the tensors that nothing asked for, in name order.
  std::vector<std::string> unused() const;

 private:
  struct Entry {
    const safetensors::Tensor* tensor;
    bool used = false;
  };
  const safetensors::Tensor* take(const std::string& name);
  Result<SourceMatrix> whole(const TensorSpec& spec, const safetensors::Tensor& t);
  Result<std::vector<SourceMatrix>> stack(const TensorSpec& spec, const safetensors::Tensor& t,
                                          int64_t parts, int64_t part) const;
  Result<const safetensors::Tensor*> scales_of(const safetensors::Tensor& t,
                                               const std::vector<int64_t>& shape);

  std::unordered_map<std::string, Entry> entries_;  // by name without "model."
};

}  // namespace narwhal
