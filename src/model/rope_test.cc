#include "model/rope.h"

#include <gtest/gtest.h>

namespace narwhal {
namespace {

TEST(Rope, SlidingFrequencies) {
  const auto f = sliding_rope_freq(flash_config());
  ASSERT_EQ(f.size(), 32u);
  EXPECT_EQ(f[0], 1);
  EXPECT_NEAR(f[16], 0.01, 1e-9);
}

TEST(Rope, YarnFrequencies) {
  const auto f = compressed_rope_freq(flash_config());
  const std::pair<int, double> want[] = {{0, 1},
                                         {1, 0.6876560219},
                                         {15, 3.635538584e-3},
                                         {16, 2.265625e-3},
                                         {17, 1.396801295e-3},
                                         {20, 2.969777783e-4},
                                         {24, 1.953125e-5},
                                         {25, 5.372312671e-6},
                                         {31, 5.680529037e-7}};
  for (const auto& [i, v] : want) EXPECT_NEAR(f[i] / v, 1, 2e-7) << i;
}

// Base 1e4 and a short original context push both corrections to the same index.
TEST(Rope, EqualCorrectionsDoNotDivideByZero) {
  Config c = flash_config();
  c.yarn_beta_fast = c.yarn_beta_slow = 1e9f;
  for (const float v : compressed_rope_freq(c)) EXPECT_TRUE(v > 0 && v <= 1) << v;
}

}  // namespace
}  // namespace narwhal
