#include "convert/hf_names.h"

#include <fmt/format.h>

#include <string_view>

#include "base/check.h"

namespace narwhal {
namespace {

struct Row {
  std::string_view gguf, official, transformers;
};

constexpr Row kGlobals[] = {
    {"token_embd.weight", "embed.weight", "embed_tokens.weight"},
    {"output.weight", "head.weight", "lm_head.weight"},
    {"output_norm.weight", "norm.weight", "norm.weight"},
    {"output_hc_fn.weight", "hc_head_fn", "hc_head.hc_fn"},
    {"output_hc_base.weight", "hc_head_base", "hc_head.hc_base"},
    {"output_hc_scale.weight", "hc_head_scale", "hc_head.hc_scale"},
};

// After "blk.N." and "layers.N.".
constexpr Row kPerLayer[] = {
    {"hc_attn_fn.weight", "hc_attn_fn", "attn_hc.fn"},
    {"hc_attn_base.weight", "hc_attn_base", "attn_hc.base"},
    {"hc_attn_scale.weight", "hc_attn_scale", "attn_hc.scale"},
    {"hc_ffn_fn.weight", "hc_ffn_fn", "ffn_hc.fn"},
    {"hc_ffn_base.weight", "hc_ffn_base", "ffn_hc.base"},
    {"hc_ffn_scale.weight", "hc_ffn_scale", "ffn_hc.scale"},
    {"attn_norm.weight", "attn_norm.weight", "input_layernorm.weight"},
    {"ffn_norm.weight", "ffn_norm.weight", "post_attention_layernorm.weight"},
    {"attn_q_a.weight", "attn.wq_a.weight", "self_attn.q_a_proj.weight"},
    {"attn_q_a_norm.weight", "attn.q_norm.weight", "self_attn.q_a_norm.weight"},
    {"attn_q_b.weight", "attn.wq_b.weight", "self_attn.q_b_proj.weight"},
    {"attn_kv.weight", "attn.wkv.weight", "self_attn.kv_proj.weight"},
    {"attn_kv_a_norm.weight", "attn.kv_norm.weight", "self_attn.kv_norm.weight"},
    {"attn_sinks.weight", "attn.attn_sink", "self_attn.sinks"},
    {"attn_output_a.weight", "attn.wo_a.weight", "self_attn.o_a_proj.weight"},
    {"attn_output_b.weight", "attn.wo_b.weight", "self_attn.o_b_proj.weight"},
    {"attn_compressor_kv.weight", "attn.compressor.wkv.weight",
     "self_attn.compressor.kv_proj.weight"},
    {"attn_compressor_gate.weight", "attn.compressor.wgate.weight",
     "self_attn.compressor.gate_proj.weight"},
    {"attn_compressor_ape.weight", "attn.compressor.ape", "self_attn.compressor.position_bias"},
    {"attn_compressor_norm.weight", "attn.compressor.norm.weight",
     "self_attn.compressor.kv_norm.weight"},
    {"indexer.attn_q_b.weight", "attn.indexer.wq_b.weight",
     "self_attn.compressor.indexer.q_b_proj.weight"},
    {"indexer.proj.weight", "attn.indexer.weights_proj.weight",
     "self_attn.compressor.indexer.scorer.weights_proj.weight"},
    {"indexer_compressor_kv.weight", "attn.indexer.compressor.wkv.weight",
     "self_attn.compressor.indexer.kv_proj.weight"},
    {"indexer_compressor_gate.weight", "attn.indexer.compressor.wgate.weight",
     "self_attn.compressor.indexer.gate_proj.weight"},
    {"indexer_compressor_ape.weight", "attn.indexer.compressor.ape",
     "self_attn.compressor.indexer.position_bias"},
    {"indexer_compressor_norm.weight", "attn.indexer.compressor.norm.weight",
     "self_attn.compressor.indexer.kv_norm.weight"},
    {"ffn_gate_inp.weight", "ffn.gate.weight", "mlp.gate.weight"},
    {"exp_probs_b.bias", "ffn.gate.bias", "mlp.gate.e_score_correction_bias"},
    {"ffn_gate_tid2eid.weight", "ffn.gate.tid2eid", "mlp.gate.tid2eid"},
    {"ffn_gate_shexp.weight", "ffn.shared_experts.w1.weight",
     "mlp.shared_experts.gate_proj.weight"},
    {"ffn_up_shexp.weight", "ffn.shared_experts.w3.weight", "mlp.shared_experts.up_proj.weight"},
    {"ffn_down_shexp.weight", "ffn.shared_experts.w2.weight",
     "mlp.shared_experts.down_proj.weight"},
};

std::string layer_prefix(const TensorSpec& spec) { return fmt::format("layers.{}.", spec.layer); }

}  // namespace

bool is_expert_stack(TensorRole role) {
  return role == TensorRole::kExpertGate || role == TensorRole::kExpertUp ||
         role == TensorRole::kExpertDown;
}

std::vector<SourceName> source_names(const TensorSpec& spec) {
  using Part = SourceName::Part;
  const std::string fused = layer_prefix(spec) + "mlp.experts.";
  if (spec.role == TensorRole::kExpertGate) return {{fused + "gate_up_proj", Part::kStackGate}};
  if (spec.role == TensorRole::kExpertUp) return {{fused + "gate_up_proj", Part::kStackUp}};
  if (spec.role == TensorRole::kExpertDown) return {{fused + "down_proj", Part::kStack}};

  if (spec.layer < 0) {
    for (const Row& row : kGlobals)
      if (row.gguf == spec.name)
        return {{std::string(row.official)}, {std::string(row.transformers)}};
  } else {
    const size_t skip = fmt::formatted_size("blk.{}.", spec.layer);
    for (const Row& row : kPerLayer)
      if (row.gguf == std::string_view(spec.name).substr(skip))
        return {{layer_prefix(spec).append(row.official)},
                {layer_prefix(spec).append(row.transformers)}};
  }
  NW_CHECK(false, "{} has no row in the table of source names", spec.name);
  return {};
}

std::vector<std::string> expert_source_names(const TensorSpec& spec, int64_t expert) {
  NW_CHECK(is_expert_stack(spec.role), "{} is no stack of experts", spec.name);
  const bool gate = spec.role == TensorRole::kExpertGate, up = spec.role == TensorRole::kExpertUp;
  return {fmt::format("layers.{}.ffn.experts.{}.{}.weight", spec.layer, expert,
                      gate ? "w1"
                      : up ? "w3"
                           : "w2"),
          fmt::format("layers.{}.mlp.experts.{}.{}_proj.weight", spec.layer, expert,
                      gate ? "gate"
                      : up ? "up"
                           : "down")};
}

std::string scale_name(const std::string& weight_name) {
  constexpr std::string_view kWeight = ".weight";
  const bool suffixed = weight_name.ends_with(kWeight);
  return weight_name.substr(0, weight_name.size() - (suffixed ? kWeight.size() : 0)) + ".scale";
}

}  // namespace narwhal
