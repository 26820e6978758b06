#include "convert/presets.h"

#include <gtest/gtest.h>

#include <map>

namespace narwhal {
namespace {

struct Layout {
  std::map<DType, int> counts;
  uint64_t n_bytes = 0;
};

Layout flash_layout(Preset preset, const TensorTypes& patterns = {}) {
  const auto table = tensor_table(flash_config());
  const auto types = choose_types(table, preset, patterns);
  EXPECT_TRUE(types.ok()) << types.status().message();
  Layout layout;
  if (!types.ok()) return layout;
  for (size_t i = 0; i < table.size(); i++) {
    const DType type = (*types)[i].type;
    EXPECT_EQ(type, (*types)[i].wanted) << table[i].name;
    EXPECT_TRUE(type_allowed(table[i].role, type)) << table[i].name;
    layout.counts[type]++;
    uint64_t n = static_cast<uint64_t>(row_bytes(type, table[i].dims[0]));
    for (size_t d = 1; d < table[i].dims.size(); d++) n *= static_cast<uint64_t>(table[i].dims[d]);
    layout.n_bytes += (n + 31) / 32 * 32;
  }
  return layout;
}

// File sizes less the data offset, to the byte.
TEST(Presets, Q2AndQ4AreThePublishedLayouts) {
  const Layout q2 = flash_layout(Preset::kQ2);
  EXPECT_EQ(q2.counts, (std::map<DType, int>{{DType::kF32, 492},
                                             {DType::kF16, 359},
                                             {DType::kQ8_0, 345},
                                             {DType::kI32, 3},
                                             {DType::kIQ2_XXS, 86},
                                             {DType::kQ2_K, 43}}));
  EXPECT_EQ(q2.n_bytes, 86720111488u - 5333824u);
  const Layout q4 = flash_layout(Preset::kQ4);
  EXPECT_EQ(q4.counts.at(DType::kQ4_K), 129);
  EXPECT_EQ(q4.n_bytes, 164633502592u - 5333824u);
}

// The mixed published file: Q4_K experts in the last six layers.
TEST(Presets, PatternsMakeTheMixedLayout) {
  const Layout mixed = flash_layout(Preset::kQ2, {{"blk.37.ffn_*_exps.weight", DType::kQ4_K},
                                                  {"blk.38.ffn_*_exps.weight", DType::kQ4_K},
                                                  {"blk.39.ffn_*_exps.weight", DType::kQ4_K},
                                                  {"blk.4?.ffn_*_exps.weight", DType::kQ4_K}});
  EXPECT_EQ(mixed.counts.at(DType::kQ4_K), 18);
  EXPECT_EQ(mixed.n_bytes, 97591747456u - 5333824u);
}

TEST(Presets, PlainPresets) {
  for (const auto& [name, type] :
       {std::pair{"f32", DType::kF32}, {"bf16", DType::kBF16}, {"f16", DType::kF16}}) {
    const auto preset = preset_by_name(name);
    ASSERT_TRUE(preset);
    EXPECT_EQ(preset_type(*preset, TensorRole::kHcFn), type);
    EXPECT_EQ(preset_type(*preset, TensorRole::kExpertDown), type);
    EXPECT_EQ(preset_type(*preset, TensorRole::kVector), DType::kF32);
    EXPECT_EQ(preset_type(*preset, TensorRole::kHashTable), DType::kI32);
  }
  EXPECT_EQ(preset_type(Preset::kQ8_0, TensorRole::kEmbedding), DType::kQ8_0);
  EXPECT_EQ(preset_type(Preset::kQ8_0, TensorRole::kIndexer), DType::kQ8_0);
  EXPECT_EQ(preset_type(Preset::kQ8_0, TensorRole::kRouter), DType::kF16);
  EXPECT_FALSE(preset_by_name("q5"));
}

TEST(Presets, RowsThatDoNotFitFallBack) {
  EXPECT_EQ(type_that_fits(DType::kQ2_K, 512), DType::kQ2_K);
  EXPECT_EQ(type_that_fits(DType::kQ2_K, 128), DType::kQ8_0);
  EXPECT_EQ(type_that_fits(DType::kQ2_K, 48), DType::kF16);
  EXPECT_EQ(type_that_fits(DType::kF32, 7), DType::kF32);
}

TEST(Presets, LastMatchingPatternCounts) {
  const auto table = tensor_table(flash_config());
  const auto types =
      choose_types(table, Preset::kF32, {{"*", DType::kF16}, {"output.weight", DType::kBF16}});
  ASSERT_TRUE(types.ok());
  for (size_t i = 0; i < table.size(); i++) {
    const DType expected = table[i].role == TensorRole::kVector      ? DType::kF32
                           : table[i].role == TensorRole::kHashTable ? DType::kI32
                           : table[i].name == "output.weight"        ? DType::kBF16
                                                                     : DType::kF16;
    EXPECT_EQ((*types)[i].type, expected) << table[i].name;
  }
}

TEST(Presets, RefusesPatternsThatDoNothing) {
  const auto table = tensor_table(flash_config());
  const TensorTypes bad[] = {{{"blk.43.*", DType::kF16}},
                             {{"*norm.weight", DType::kF16}},
                             {{"*", DType::kI8}},
                             {{"blk.5.ffn_up_exps.weight", DType::kQ8_0}}};
  for (const TensorTypes& patterns : bad) {
    const auto types = choose_types(table, Preset::kQ2, patterns);
    ASSERT_FALSE(types.ok()) << patterns[0].first;
    EXPECT_EQ(types.status().code(), Code::kUsage);
  }
}

TEST(Presets, Glob) {
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("a*b*c", "aXbbYc"));
  EXPECT_TRUE(glob_match("*.weight", "a.weight.weight"));
  EXPECT_TRUE(glob_match("blk.?.x", "blk.1.x"));
  EXPECT_FALSE(glob_match("blk.?.x", "blk.12.x"));
  EXPECT_FALSE(glob_match("a*b", "acbd"));
  EXPECT_FALSE(glob_match("", "a"));
  EXPECT_FALSE(glob_match("a", ""));
}

}  // namespace
}  // namespace narwhal
