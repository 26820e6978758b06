#include "convert/hf_names.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace narwhal {
namespace {

TensorSpec find(const std::vector<TensorSpec>& table, const std::string& name) {
  const auto it =
      std::find_if(table.begin(), table.end(), [&](const auto& t) { return t.name == name; });
  EXPECT_NE(it, table.end()) << name;
  return it == table.end() ? TensorSpec{} : *it;
}

TEST(HfNames, SpellsBothWays) {
  const std::vector<TensorSpec> table = tensor_table(flash_config());
  const struct {
    const char *gguf, *official, *transformers;
  } cases[] = {
      {"token_embd.weight", "embed.weight", "embed_tokens.weight"},
      {"output_hc_fn.weight", "hc_head_fn", "hc_head.hc_fn"},
      {"blk.42.attn_norm.weight", "layers.42.attn_norm.weight", "layers.42.input_layernorm.weight"},
      {"blk.2.indexer.proj.weight", "layers.2.attn.indexer.weights_proj.weight",
       "layers.2.self_attn.compressor.indexer.scorer.weights_proj.weight"},
      {"blk.3.attn_compressor_ape.weight", "layers.3.attn.compressor.ape",
       "layers.3.self_attn.compressor.position_bias"},
      {"blk.10.exp_probs_b.bias", "layers.10.ffn.gate.bias",
       "layers.10.mlp.gate.e_score_correction_bias"},
      {"blk.0.ffn_gate_tid2eid.weight", "layers.0.ffn.gate.tid2eid", "layers.0.mlp.gate.tid2eid"},
  };
  for (const auto& c : cases) {
    const auto names = source_names(find(table, c.gguf));
    ASSERT_EQ(names.size(), 2u);
    EXPECT_EQ(names[0].name, c.official);
    EXPECT_EQ(names[1].name, c.transformers);
  }
}

TEST(HfNames, Experts) {
  const std::vector<TensorSpec> table = tensor_table(flash_config());
  using Part = SourceName::Part;
  const TensorSpec gate = find(table, "blk.7.ffn_gate_exps.weight");
  const TensorSpec up = find(table, "blk.7.ffn_up_exps.weight");
  const TensorSpec down = find(table, "blk.7.ffn_down_exps.weight");
  EXPECT_EQ(source_names(gate)[0].name, "layers.7.mlp.experts.gate_up_proj");
  EXPECT_EQ(source_names(gate)[0].part, Part::kStackGate);
  EXPECT_EQ(source_names(up)[0].part, Part::kStackUp);
  EXPECT_EQ(source_names(down)[0].name, "layers.7.mlp.experts.down_proj");
  EXPECT_EQ(source_names(down)[0].part, Part::kStack);
  EXPECT_EQ(expert_source_names(gate, 255)[0], "layers.7.ffn.experts.255.w1.weight");
  EXPECT_EQ(expert_source_names(up, 0)[0], "layers.7.ffn.experts.0.w3.weight");
  EXPECT_EQ(expert_source_names(down, 0)[0], "layers.7.ffn.experts.0.w2.weight");
  EXPECT_EQ(expert_source_names(down, 9)[1], "layers.7.mlp.experts.9.down_proj.weight");
  EXPECT_EQ(scale_name("layers.0.attn.wq_a.weight"), "layers.0.attn.wq_a.scale");
}

TEST(HfNames, MtpBlock) {
  const std::vector<TensorSpec> table = mtp_table(flash_config());
  const struct {
    const char *gguf, *official, *transformers;
  } cases[] = {
      {"mtp.0.norm.weight", "mtp.0.norm.weight", "mtp.0.norm.weight"},
      {"mtp.0.hnorm.weight", "mtp.0.hnorm.weight", "mtp.0.hnorm.weight"},
      {"mtp.0.e_proj.weight", "mtp.0.e_proj.weight", "mtp.0.e_proj.weight"},
      {"mtp.0.hc_head_fn.weight", "mtp.0.hc_head_fn", "mtp.0.hc_head.hc_fn"},
      {"mtp.0.hc_attn_base.weight", "mtp.0.hc_attn_base", "mtp.0.attn_hc.base"},
      {"mtp.0.attn_sinks.weight", "mtp.0.attn.attn_sink", "mtp.0.self_attn.sinks"},
      {"mtp.0.exp_probs_b.bias", "mtp.0.ffn.gate.bias", "mtp.0.mlp.gate.e_score_correction_bias"},
  };
  for (const auto& c : cases) {
    const auto names = source_names(find(table, c.gguf));
    ASSERT_EQ(names.size(), 2u);
    EXPECT_EQ(names[0].name, c.official);
    EXPECT_EQ(names[1].name, c.transformers);
  }
  const TensorSpec up = find(table, "mtp.0.ffn_up_exps.weight");
  EXPECT_EQ(source_names(up)[0].name, "mtp.0.mlp.experts.gate_up_proj");
  EXPECT_EQ(expert_source_names(up, 3)[0], "mtp.0.ffn.experts.3.w3.weight");
  EXPECT_EQ(expert_source_names(up, 3)[1], "mtp.0.mlp.experts.3.up_proj.weight");
}

// No two tensors of the model may come from one source, but gate and up of a fused stack.
TEST(HfNames, EveryTensorHasItsOwnSource) {
  std::vector<TensorSpec> table = tensor_table(flash_config());
  for (const TensorSpec& spec : mtp_table(flash_config())) table.push_back(spec);
  for (const size_t spelling : {0, 1}) {
    std::set<std::string> seen;
    for (const TensorSpec& spec : table) {
      if (is_expert_stack(spec.role)) {
        EXPECT_TRUE(seen.insert(expert_source_names(spec, 1).at(spelling)).second) << spec.name;
      } else {
        EXPECT_TRUE(seen.insert(source_names(spec).at(spelling).name).second) << spec.name;
      }
    }
  }
}

}  // namespace
}  // namespace narwhal
