// Importance matrices: how much each column of a weight matters, measured on real prompts (spec:
// GGUF section 10, the legacy .dat file).
//
//   i32 n_entries
//   n_entries x { i32 name_len | name | i32 n_calls | i32 n_values | f32 values[n_values] }
//   optionally  { i32 n_chunks | i32 len | data set name }
//
// Values are divided by n_calls where that is positive. An entry may hold one matrix or all experts
// of a stack, one after another.
//
//   NW_ASSIGN(const Imatrix imatrix, Imatrix::open("flash.imatrix.dat"));
//   NW_ASSIGN(auto columns, imatrix.find("blk.3.ffn_gate_exps.weight", 17, 256, 4096));
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "narwhal/status.h"

namespace narwhal {

class Imatrix {
 public:
  // kBadInput naming the entry: counts below 1 or past the end of the file, a name used twice or
  // not UTF-8, a value that is negative or not finite, bytes after the trailer.
  static Result<Imatrix> open(const std::string& path);
  static Result<Imatrix> parse(std::string_view bytes);

  // The importance of the columns of matrix `expert` of `n_experts` of a tensor (0 of 1 for a lone
  // matrix): looked for as NAME.expert.E, then NAME.expert_E, then slice E of NAME. Empty when
  // there is none; kBadInput when its length is not n_columns (times n_experts in a stack).
  Result<std::span<const float>> find(std::string_view tensor, int64_t expert, int64_t n_experts,
                                      int64_t n_columns) const;

  int64_t n_entries() const { return static_cast<int64_t>(entries_.size()); }
  int64_t n_chunks() const { return n_chunks_; }           // 0 when the file does not say
  const std::string& dataset() const { return dataset_; }  // empty likewise

 private:
  std::unordered_map<std::string, std::vector<float>> entries_;
  int64_t n_chunks_ = 0;
  std::string dataset_;
};

}  // namespace narwhal
