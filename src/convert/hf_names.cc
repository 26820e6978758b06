#include "convert/hf_names.h"

#include <fmt/format.h>

#include <span>
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

// Of the MTP block, after "mtp.0.", beside those of a layer.
constexpr Row kMtpOnly[] = {
    {"norm.weight", "norm.weight", "norm.weight"},
    {"enorm.weight", "enorm.weight", "enorm.weight"},
    {"hnorm.weight", "hnorm.weight", "hnorm.weight"},
    {"e_proj.weight", "e_proj.weight", "e_proj.weight"},
    {"h_proj.weight", "h_proj.weight", "h_proj.weight"},
    {"hc_head_fn.weight", "hc_head_fn", "hc_head.hc_fn"},
    {"hc_head_base.weight", "hc_head_base", "hc_head.hc_base"},
    {"hc_head_scale.weight", "hc_head_scale", "hc_head.hc_scale"},
};

constexpr std::string_view kMtpPrefix = "mtp.0.";

bool is_mtp(const TensorSpec& spec) { return spec.name.starts_with(kMtpPrefix); }

// Of the tensor's block, in the checkpoint; empty for a tensor outside the blocks.
std::string source_prefix(const TensorSpec& spec) {
  if (is_mtp(spec)) return std::string(kMtpPrefix);
  return spec.layer < 0 ? "" : fmt::format("layers.{}.", spec.layer);
}

const Row* find_row(std::span<const Row> rows, std::string_view gguf) {
  for (const Row& row : rows)
    if (row.gguf == gguf) return &row;
  return nullptr;
}

const Row* row_of(const TensorSpec& spec) {
  std::string_view name = spec.name;
  if (is_mtp(spec)) {
    name.remove_prefix(kMtpPrefix.size());
    const Row* own = find_row(kMtpOnly, name);
    return own ? own : find_row(kPerLayer, name);
  }
  if (spec.layer < 0) return find_row(kGlobals, name);
  name.remove_prefix(fmt::formatted_size("blk.{}.", spec.layer));
  return find_row(kPerLayer, name);
}

}  // namespace

bool is_expert_stack(TensorRole role) {
  return role == TensorRole::kExpertGate || role == TensorRole::kExpertUp ||
         role == TensorRole::kExpertDown;
}

std::vector<SourceName> source_names(const TensorSpec& spec) {
  using Part = SourceName::Part;
  const std::string fused = source_prefix(spec) + "mlp.experts.";
  if (spec.role == TensorRole::kExpertGate) return {{fused + "gate_up_proj", Part::kStackGate}};
  if (spec.role == TensorRole::kExpertUp) return {{fused + "gate_up_proj", Part::kStackUp}};
  if (spec.role == TensorRole::kExpertDown) return {{fused + "down_proj", Part::kStack}};

  const Row* row = row_of(spec);
  NW_CHECK(row, "{} has no row in the table of source names", spec.name);
  const std::string prefix = source_prefix(spec);
  return {{prefix + std::string(row->official)}, {prefix + std::string(row->transformers)}};
}

std::vector<std::string> expert_source_names(const TensorSpec& spec, int64_t expert) {
  NW_CHECK(is_expert_stack(spec.role), "{} is no stack of experts", spec.name);
  const bool gate = spec.role == TensorRole::kExpertGate, up = spec.role == TensorRole::kExpertUp;
  const std::string prefix = source_prefix(spec);
  return {fmt::format("{}ffn.experts.{}.{}.weight", prefix, expert,
                      gate ? "w1"
                      : up ? "w3"
                           : "w2"),
          fmt::format("{}mlp.experts.{}.{}_proj.weight", prefix, expert,
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
