// Which tensors of a Hugging Face checkpoint hold a GGUF tensor (spec: GGUF section 5).
//
// Three spellings are known, tried in this order: the official one (layers.0.attn.wq_a.weight), the
// one transformers saves (layers.0.self_attn.q_a_proj.weight) and, for routed experts,
// transformers' with one tensor per expert. Names are given without the "model." that transformers
// puts in front of most; a checkpoint may have it on any name or none. The MTP block ("mtp.0.*")
// has the names of a layer under its own prefix.
#pragma once

#include <string>
#include <vector>

#include "model/weights.h"

namespace narwhal {

struct SourceName {
  // Which rows of the named tensor belong to the GGUF tensor.
  enum class Part {
    kWhole,      // all
    kStack,      // [expert, out, in]: all experts' matrices
    kStackGate,  // [expert, 2 out, in]: of each expert the first half
    kStackUp,    //                      ... the second half
  };
  std::string name;
  Part part = Part::kWhole;
};

// Whether the tensor is a stack of routed experts.
bool is_expert_stack(TensorRole role);

// Spellings under which the whole of `spec` may be found. Of a stack of experts these are the fused
// ones.
std::vector<SourceName> source_names(const TensorSpec& spec);

// Spellings of the matrix of one routed expert; `spec` is a stack of experts.
std::vector<std::string> expert_source_names(const TensorSpec& spec, int64_t expert);

// The block scales that belong to a quantised matrix: "a.weight" -> "a.scale".
std::string scale_name(const std::string& weight_name);

}  // namespace narwhal
