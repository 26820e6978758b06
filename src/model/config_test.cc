#include "model/config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gguf/names.h"

namespace narwhal {
namespace {

namespace names = gguf::names;

std::string temp_path() {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  return testing::TempDir() + "narwhal_config_" + test->name() + ".gguf";
}

// Writes a file without tensors and reads its Config back.
Result<Config> round_trip(const Config& config,
                          const std::function<void(gguf::Writer&)>& change = {}) {
  gguf::Writer w;
  write_config(config, w);
  if (change) change(w);
  const std::string path = temp_path();
  NW_TRY(w.begin(path));
  NW_TRY(w.finish());
  auto file = gguf::File::open(path);
  std::remove(path.c_str());  // the mapping keeps the bytes
  NW_TRY(file.status());
  return read_config(*file);
}

void expect_fault(const Result<Config>& r, const std::string& part) {
  ASSERT_FALSE(r.ok()) << "expected a fault that names " << part;
  EXPECT_EQ(r.status().code(), Code::kBadInput);
  EXPECT_NE(r.status().message().find(part), std::string::npos) << r.status().message();
  EXPECT_EQ(r.status().message().find('\n'), std::string::npos);
}

// Every field differs from its default and from flash_config().
Config unusual_config() {
  Config c;
  c.name = "unusual";
  c.n_layers = 4;
  c.n_vocab = 300;
  c.max_ctx = 5000;
  c.d_model = 96;
  c.n_hc = 3;
  c.sinkhorn_iterations = 7;
  c.hc_eps = 2e-6f;
  c.rms_eps = 3e-6f;
  c.n_heads = 6;
  c.head_dim = 160;
  c.rope_dim = 32;
  c.q_lora = 40;
  c.o_groups = 3;
  c.o_lora = 24;
  c.window = 17;
  c.layers = {LayerKind::kHca, LayerKind::kSliding, LayerKind::kCsa, LayerKind::kCsa};
  c.n_index_heads = 5;
  c.index_dim = 64;
  c.index_top_k = 9;
  c.n_experts = 11;
  c.n_experts_used = 4;
  c.d_expert = 48;
  c.n_hash_layers = 2;
  c.expert_scale = 2.5f;
  c.swiglu_limit = {7, 8, 9, 10.5f};
  c.rope_base = 20000;
  c.compress_rope_base = 50000;
  c.yarn_factor = 8;
  c.yarn_original_ctx = 4096;
  c.yarn_beta_fast = 24;
  c.yarn_beta_slow = 2;
  c.prompt_profile = "0731";
  return c;
}

void expect_same(const Config& a, const Config& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.n_layers, b.n_layers);
  EXPECT_EQ(a.n_vocab, b.n_vocab);
  EXPECT_EQ(a.max_ctx, b.max_ctx);
  EXPECT_EQ(a.d_model, b.d_model);
  EXPECT_EQ(a.n_hc, b.n_hc);
  EXPECT_EQ(a.sinkhorn_iterations, b.sinkhorn_iterations);
  EXPECT_EQ(a.hc_eps, b.hc_eps);
  EXPECT_EQ(a.rms_eps, b.rms_eps);
  EXPECT_EQ(a.n_heads, b.n_heads);
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(a.rope_dim, b.rope_dim);
  EXPECT_EQ(a.q_lora, b.q_lora);
  EXPECT_EQ(a.o_groups, b.o_groups);
  EXPECT_EQ(a.o_lora, b.o_lora);
  EXPECT_EQ(a.window, b.window);
  EXPECT_EQ(a.layers, b.layers);
  EXPECT_EQ(a.n_index_heads, b.n_index_heads);
  EXPECT_EQ(a.index_dim, b.index_dim);
  EXPECT_EQ(a.index_top_k, b.index_top_k);
  EXPECT_EQ(a.n_experts, b.n_experts);
  EXPECT_EQ(a.n_experts_used, b.n_experts_used);
  EXPECT_EQ(a.n_experts_shared, b.n_experts_shared);
  EXPECT_EQ(a.d_expert, b.d_expert);
  EXPECT_EQ(a.n_hash_layers, b.n_hash_layers);
  EXPECT_EQ(a.expert_scale, b.expert_scale);
  EXPECT_EQ(a.swiglu_limit, b.swiglu_limit);
  EXPECT_EQ(a.rope_base, b.rope_base);
  EXPECT_EQ(a.compress_rope_base, b.compress_rope_base);
  EXPECT_EQ(a.yarn_factor, b.yarn_factor);
  EXPECT_EQ(a.yarn_original_ctx, b.yarn_original_ctx);
  EXPECT_EQ(a.yarn_beta_fast, b.yarn_beta_fast);
  EXPECT_EQ(a.yarn_beta_slow, b.yarn_beta_slow);
  EXPECT_EQ(a.prompt_profile, b.prompt_profile);
}

TEST(Config, RoundTrip) {
  for (const Config& c : {flash_config(), unusual_config()}) {
    const auto r = round_trip(c);
    ASSERT_TRUE(r.ok()) << r.status().message();
    expect_same(c, *r);
  }
}

TEST(Config, FlashLayers) {
  const Config c = flash_config();
  EXPECT_TRUE(check_config(c).ok());
  EXPECT_EQ(c.n_layers_of(LayerKind::kSliding), 2);
  EXPECT_EQ(c.n_layers_of(LayerKind::kCsa), 21);
  EXPECT_EQ(c.n_layers_of(LayerKind::kHca), 20);
  EXPECT_EQ(c.layers[2], LayerKind::kCsa);
  EXPECT_EQ(c.layers[42], LayerKind::kCsa);
  EXPECT_EQ(c.nope_dim(), 448);
  EXPECT_EQ(c.heads_per_group(), 8);
  EXPECT_EQ(c.hc_mixes(), 24);
  EXPECT_TRUE(c.is_hash_layer(2));
  EXPECT_FALSE(c.is_hash_layer(3));
}

TEST(Config, EachMissingKeyIsNamed) {
  const Config c = unusual_config();
  const std::string path = temp_path();
  gguf::Writer w;
  write_config(c, w);
  ASSERT_TRUE(w.begin(path).ok());
  ASSERT_TRUE(w.finish().ok());
  auto whole = gguf::File::open(path);
  ASSERT_TRUE(whole.ok()) << whole.status().message();
  // Keys with one possible value, or a default that the paper fixes.
  const std::vector<std::string_view> optional = {
      names::kGeneralName,  names::kPromptProfile, names::kHeadCountKv,  names::kValueLength,
      names::kExpertShared, names::kExpertNorm,    names::kExpertGating, names::kYarnType,
      names::kYarnBetaFast, names::kYarnBetaSlow};
  int n_required = 0;
  for (const gguf::KeyValue& left_out : whole->metadata()) {
    gguf::Writer part;
    for (const gguf::KeyValue& kv : whole->metadata())
      if (kv.key != left_out.key) part.copy(kv.key, kv.value);
    const std::string part_path = path + ".part";
    ASSERT_TRUE(part.begin(part_path).ok());
    ASSERT_TRUE(part.finish().ok());
    auto file = gguf::File::open(part_path);
    ASSERT_TRUE(file.ok()) << file.status().message();
    const auto r = read_config(*file);
    if (std::count(optional.begin(), optional.end(), left_out.key) > 0) {
      EXPECT_TRUE(r.ok()) << left_out.key << ": " << r.status().message();
    } else {
      n_required++;
      expect_fault(r, std::string(left_out.key));
    }
    std::remove(part_path.c_str());
  }
  EXPECT_EQ(n_required, 30);
  std::remove(path.c_str());
}

TEST(Config, AnyIntegerWidthAndNumberType) {
  const Config c = unusual_config();
  const auto r = round_trip(c, [&c](gguf::Writer& w) {
    w.add_u8(names::kBlockCount, static_cast<uint8_t>(c.n_layers));
    w.add_u64(names::kContextLength, c.max_ctx);
    w.add_i64(names::kEmbeddingLength, c.d_model);
    w.add_i32(names::kVocabSize, c.n_vocab);
    w.add_u64(names::kYarnOriginalContext, c.yarn_original_ctx);
    w.add_u32(names::kYarnFactor, 8);  // integers serve as numbers
    w.add_f64(names::kRopeBase, c.rope_base);
    w.add_u32s(names::kCompressRatios, std::vector<uint32_t>{128, 0, 4, 4});
  });
  ASSERT_TRUE(r.ok()) << r.status().message();
  expect_same(c, *r);
}

TEST(Config, NumbersThatDoNotFitAreRefused) {
  expect_fault(
      round_trip(flash_config(),
                 [](gguf::Writer& w) { w.add_u64(names::kEmbeddingLength, uint64_t{1} << 40); }),
      names::kEmbeddingLength);
  expect_fault(
      round_trip(flash_config(), [](gguf::Writer& w) { w.add_i32(names::kHashLayers, -1); }),
      names::kHashLayers);
  expect_fault(
      round_trip(flash_config(), [](gguf::Writer& w) { w.add_string(names::kHeadCount, "64"); }),
      names::kHeadCount);
  expect_fault(
      round_trip(flash_config(), [](gguf::Writer& w) { w.add_f32(names::kBlockCount, 43); }),
      names::kBlockCount);
}

TEST(Config, RatiosPastTheLayersAreIgnored) {
  const Config c = flash_config();
  std::vector<int32_t> ratios;
  for (const LayerKind k : c.layers) ratios.push_back(static_cast<int32_t>(k));
  for (const size_t n : {43, 44, 46}) {
    ratios.resize(n, 0);
    const auto r =
        round_trip(c, [&](gguf::Writer& w) { w.add_i32s(names::kCompressRatios, ratios); });
    ASSERT_TRUE(r.ok()) << r.status().message();
    EXPECT_EQ(r->layers, c.layers) << n;
  }
  ratios.resize(42);
  expect_fault(round_trip(c, [&](gguf::Writer& w) { w.add_i32s(names::kCompressRatios, ratios); }),
               names::kCompressRatios);
}

TEST(Config, AnUnknownRatioIsNamedWithItsLayer) {
  expect_fault(round_trip(unusual_config(),
                          [](gguf::Writer& w) {
                            w.add_i32s(names::kCompressRatios, std::vector<int32_t>{0, 4, 64, 4});
                          }),
               "[2] is 64");
}

TEST(Config, OneClampForAllLayers) {
  Config c = unusual_config();
  const auto r = round_trip(c, [](gguf::Writer& w) { w.add_f32(names::kSwigluClamp, 6.5f); });
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_EQ(r->swiglu_limit, std::vector<float>(4, 6.5f));
  expect_fault(round_trip(c,
                          [](gguf::Writer& w) {
                            w.add_f32s(names::kSwigluClamp, std::vector<float>{1, 2, 3});
                          }),
               names::kSwigluClamp);
}

TEST(Config, ForeignChoicesAreRefused) {
  const Config c = flash_config();
  using W = gguf::Writer;
  expect_fault(round_trip(c, [](W& w) { w.add_string(names::kGeneralArchitecture, "llama"); }),
               "\"llama\"");
  expect_fault(round_trip(c, [](W& w) { w.add_u32(names::kHeadCountKv, 8); }), names::kHeadCountKv);
  expect_fault(round_trip(c, [](W& w) { w.add_u32(names::kExpertGating, 2); }),
               names::kExpertGating);
  expect_fault(round_trip(c, [](W& w) { w.add_bool(names::kExpertNorm, false); }),
               names::kExpertNorm);
  expect_fault(round_trip(c, [](W& w) { w.add_u32(names::kValueLength, 256); }),
               names::kValueLength);
  expect_fault(round_trip(c, [](W& w) { w.add_string(names::kYarnType, "linear"); }),
               names::kYarnType);
}

TEST(Config, CheckFindsWhatDoesNotFitTogether) {
  struct Fault {
    const char* part;
    std::function<void(Config&)> make;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<Fault> faults = {
      {"block count", [](Config& c) { c.n_layers = 0; }},
      {"vocabulary", [](Config& c) { c.n_vocab = 0; }},
      {"q rank", [](Config& c) { c.q_lora = 0; }},
      {"schedule", [](Config& c) { c.layers.pop_back(); }},
      {"schedule", [](Config& c) { c.swiglu_limit.pop_back(); }},
      {"multiple of 64", [](Config& c) { c.head_dim = 500; }},
      {"multiple of 64", [](Config& c) { c.rope_dim = 512; }},
      {"output groups", [](Config& c) { c.o_groups = 7; }},
      {"experts used", [](Config& c) { c.n_experts_used = 257; }},
      {"shared", [](Config& c) { c.n_experts_shared = 2; }},
      {"hash layers", [](Config& c) { c.n_hash_layers = 44; }},
      {"hash layers", [](Config& c) { c.n_hash_layers = -1; }},
      {"indexer heads", [](Config& c) { c.n_index_heads = 0; }},
      {"top-k", [](Config& c) { c.index_top_k = 0; }},
      {"indexer dimension", [](Config& c) { c.index_dim = 96; }},
      {"indexer dimension", [](Config& c) { c.index_dim = 32; }},  // below the rope dimension
      {"far beyond", [](Config& c) { c.d_model = 1 << 24; }},
      {"far beyond", [](Config& c) { c.d_expert = 1 << 24; }},
      {"far beyond", [](Config& c) { c.sinkhorn_iterations = 1 << 30; }},
      {"YaRN", [](Config& c) { c.yarn_original_ctx = 0; }},
      {"constant", [](Config& c) { c.rms_eps = 0; }},
      {"constant", [nan](Config& c) { c.rope_base = nan; }},
      {"constant", [](Config& c) { c.yarn_beta_slow = -1; }},
      {"clamp", [nan](Config& c) { c.swiglu_limit[7] = nan; }},
  };
  for (const Fault& f : faults) {
    Config c = flash_config();
    f.make(c);
    const Status s = check_config(c);
    EXPECT_EQ(s.code(), Code::kBadInput) << f.part;
    EXPECT_NE(s.message().find(f.part), std::string::npos) << f.part << ": " << s.message();
  }
}

TEST(Config, IndexerIsNotNeededWithoutItsLayers) {
  Config c = unusual_config();
  c.layers.assign(4, LayerKind::kHca);
  c.n_index_heads = c.index_top_k = 0;
  EXPECT_TRUE(check_config(c).ok()) << check_config(c).message();
}

}  // namespace
}  // namespace narwhal
