#include "convert/hf_config.h"

#include <gtest/gtest.h>

#include <string>

#include "base/file.h"
#include "convert/test_checkpoint.h"

namespace narwhal {
namespace {

using test::kOfficialConfig;

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

std::string fault_of(const std::string& json) {
  const Result<Config> c = config_from_hf(json);
  if (c.ok()) return "(accepted)";
  EXPECT_EQ(c.status().code(), Code::kBadInput);
  return c.status().message();
}

TEST(HfConfig, ReadsTheOfficialSpelling) {
  const Result<Config> c = config_from_hf(kOfficialConfig);
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->n_layers, 4);
  EXPECT_EQ(c->n_vocab, 264);
  EXPECT_EQ(c->max_ctx, 1048576);
  EXPECT_EQ(c->d_model, 256);
  EXPECT_EQ(c->n_heads, 4);
  EXPECT_EQ(c->head_dim, 128);
  EXPECT_EQ(c->rope_dim, 64);
  EXPECT_EQ(c->q_lora, 160);
  EXPECT_EQ(c->o_lora, 64);
  EXPECT_EQ(c->o_groups, 2);
  EXPECT_EQ(c->window, 128);
  using K = LayerKind;
  EXPECT_EQ(c->layers, (std::vector{K::kSliding, K::kCsa, K::kHca, K::kCsa}));
  EXPECT_EQ(c->n_index_heads, 2);
  EXPECT_EQ(c->index_dim, 128);
  EXPECT_EQ(c->index_top_k, 8);
  EXPECT_EQ(c->n_experts, 3);
  EXPECT_EQ(c->n_experts_used, 2);
  EXPECT_EQ(c->n_experts_shared, 1);
  EXPECT_EQ(c->d_expert, 128);
  EXPECT_EQ(c->n_hash_layers, 2);
  EXPECT_EQ(c->expert_scale, 1.5f);
  EXPECT_EQ(c->swiglu_limit, std::vector<float>(4, 10.0f));
  EXPECT_EQ(c->n_hc, 4);
  EXPECT_EQ(c->sinkhorn_iterations, 20);
  EXPECT_EQ(c->hc_eps, 1e-6f);
  EXPECT_EQ(c->rms_eps, 1e-6f);
  EXPECT_EQ(c->rope_base, 10000.0f);
  EXPECT_EQ(c->compress_rope_base, 160000.0f);
  EXPECT_EQ(c->yarn_factor, 16.0f);
  EXPECT_EQ(c->yarn_original_ctx, 65536);
  EXPECT_EQ(c->yarn_beta_fast, 32.0f);
  EXPECT_EQ(c->yarn_beta_slow, 1.0f);
  EXPECT_EQ(c->prompt_profile, "preview");
}

// Every value that has a second spelling, in that one only.
TEST(HfConfig, ReadsTransformersSpelling) {
  std::string j = kOfficialConfig;
  j = replaced(j, R"("qk_rope_head_dim": 64)", R"("qk_rope_head_dim": null)");
  j = replaced(j, R"("compress_ratios": [0, 4, 128, 4, 0])",
               R"("compress_ratios": null,
                  "layer_types": ["sliding_attention", "compressed_sparse_attention",
                                  "heavily_compressed_attention", "compressed_sparse_attention"],
                  "compress_rates": {"compressed_sparse_attention": 4,
                                     "heavily_compressed_attention": 128})");
  j = replaced(j, R"("num_hash_layers": 2)",
               R"("mlp_layer_types": ["hash_moe", "hash_moe", "moe", "moe"])");
  j = replaced(j, R"("rope_theta": 10000,)", "");
  j = replaced(j, R"("compress_rope_theta": 160000,)", "");
  j = replaced(j, R"("swiglu_limit": 10.0)", R"("swiglu_limit": [7, 8, 9, 10])");
  const size_t at = j.find(R"("rope_scaling")");
  j = j.substr(0, at) + R"("rope_scaling": null, "rope_parameters": {
        "main": {"rope_type": "default", "rope_theta": 20000.0, "partial_rotary_factor": 0.5},
        "compress": {"rope_type": "yarn", "factor": 8.0, "beta_fast": 31.0, "beta_slow": 2.0,
                     "original_max_position_embeddings": 4096, "rope_theta": 90000.0}}})";
  const Result<Config> c = config_from_hf(j);
  ASSERT_TRUE(c.ok()) << c.status().message();
  using K = LayerKind;
  EXPECT_EQ(c->layers, (std::vector{K::kSliding, K::kCsa, K::kHca, K::kCsa}));
  EXPECT_EQ(c->n_hash_layers, 2);
  EXPECT_EQ(c->rope_dim, 64);
  EXPECT_EQ(c->rope_base, 20000.0f);
  EXPECT_EQ(c->compress_rope_base, 90000.0f);
  EXPECT_EQ(c->yarn_factor, 8.0f);
  EXPECT_EQ(c->yarn_original_ctx, 4096);
  EXPECT_EQ(c->yarn_beta_fast, 31.0f);
  EXPECT_EQ(c->yarn_beta_slow, 2.0f);
  EXPECT_EQ(c->swiglu_limit, (std::vector<float>{7, 8, 9, 10}));
}

TEST(HfConfig, ReadsWhatTransformersSaves) {
  const auto text = read_file(NARWHAL_TEST_DATA "/tiny/config.json");
  ASSERT_TRUE(text.ok());
  const Result<Config> c = config_from_hf(*text);
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->n_layers, 6);
  EXPECT_EQ(c->n_layers_of(LayerKind::kCsa), 2);
  EXPECT_EQ(c->n_layers_of(LayerKind::kHca), 2);
  EXPECT_EQ(c->n_hash_layers, 3);
  EXPECT_EQ(c->window, 16);
  EXPECT_EQ(c->o_groups, 2);
}

TEST(HfConfig, DrafterSettingsMeanTheLaterRelease) {
  const Result<Config> c = config_from_hf(
      replaced(kOfficialConfig, R"("o_groups")", R"("dspark_block_size": 5, "o_groups")"));
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->prompt_profile, "0731");
}

TEST(HfConfig, NamesTheMemberAtFault) {
  const std::string j = kOfficialConfig;
  const struct {
    std::string from, to, named;
  } cases[] = {
      {R"("hidden_size": 256, )", "", "hidden_size is missing"},
      {R"("rope_theta": 10000)", R"("x": 1)", "rope_parameters.main.rope_theta) is missing"},
      {R"("compress_ratios")", R"("x")", "compress_ratios (or layer_types"},
      {R"("num_hash_layers")", R"("x")", "num_hash_layers (or mlp_layer_types)"},
      {R"("swiglu_limit")", R"("x")", "swiglu_limit is missing"},
      {R"("factor": 16)", R"("factor": "16")", "rope_scaling.factor"},
      {R"("type": "yarn")", R"("type": "linear")", "expected \"yarn\""},
      {R"("q_lora_rank": 160)", R"("q_lora_rank": -1)", "q_lora_rank is -1"},
      {R"("q_lora_rank": 160)", R"("q_lora_rank": 160.5)", "q_lora_rank is 160.5"},
      {R"("q_lora_rank": 160)", R"("q_lora_rank": 5000000000)", "q_lora_rank is 5000000000"},
      {R"([0, 4, 128, 4, 0])", R"([0, 4, 64, 4, 0])", "compress_ratios[2] is 64"},
      {R"([0, 4, 128, 4, 0])", R"([0, 4])", "compress_ratios has 2 entries"},
      {R"("deepseek_v4")", R"("llama")", "model_type is \"llama\""},
      {R"("sqrtsoftplus")", R"("sigmoid")", "scoring_func is \"sigmoid\""},
      {R"("num_key_value_heads": 1)", R"("num_key_value_heads": 2)", "num_key_value_heads is 2"},
      {R"("num_hidden_layers": 4)", R"("num_hidden_layers": 0)", "num_hidden_layers is 0"},
      {R"("num_experts_per_tok": 2)", R"("num_experts_per_tok": 9)", "9 experts used of 3"},
      {R"("num_hash_layers": 2)", R"("mlp_layer_types": ["moe", "hash_moe"])",
       "mlp_layer_types[1]"},
  };
  for (const auto& c : cases) {
    const std::string fault = fault_of(replaced(j, c.from, c.to));
    EXPECT_NE(fault.find(c.named), std::string::npos) << c.named << " not in: " << fault;
    EXPECT_TRUE(fault.starts_with("config.json: ")) << fault;
  }
  EXPECT_NE(fault_of("[]"), "(accepted)");
}

// A file cut anywhere is refused, never half read.
TEST(HfConfig, RefusesATruncatedFile) {
  const std::string j = kOfficialConfig;
  for (size_t n = 0; n + 1 < j.size(); n += 37) EXPECT_NE(fault_of(j.substr(0, n)), "(accepted)");
}

}  // namespace
}  // namespace narwhal
