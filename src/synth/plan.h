// What a synthetic file holds: the tensors of the model's own table with a storage type and a way
// to draw each.
#pragma once

#include <string>
#include <vector>

#include "model/weights.h"
#include "synth/fill.h"
#include "synth/synth.h"

namespace narwhal::synth_detail {

struct PlannedTensor {
  TensorSpec spec;
  DType type = DType::kF32;
  Fill fill;
  int alias_of = -1;  // index of the tensor whose bytes these are

  bool is_expert() const;
  int64_t n_elements() const;
  int64_t n_bytes() const;
};

// The tensors of `config` under the options' quant, flavor, seed, mtp and alias_experts. kUsage for
// an unknown name, or for rows that are not whole blocks of the type chosen for them.
Result<std::vector<PlannedTensor>> plan_tensors(const Config& config, const SynthOptions& options);

}  // namespace narwhal::synth_detail
