#include "model/activations.h"

#include <gtest/gtest.h>

namespace narwhal {
namespace {

Activations placed(const StepShape& shape) {
  const Config c = flash_config();
  Activations a;
  EXPECT_GT(place_activations(c, make_kv_layout(c, KvPrecision::kTrained), shape, nullptr, a), 0);
  return a;
}

TEST(Activations, ScoresOfAStepStayWithinTheirShare) {
  EXPECT_EQ(placed({1, 1, 1 << 20}).score_rows, 1);
  EXPECT_EQ(placed({2048, 1, 8192}).score_rows, 2048);
  for (const int64_t n_ctx : {65536, 1 << 18, 1 << 20, 1 << 24}) {
    const Activations a = placed({2048, 1, n_ctx});
    EXPECT_GE(a.score_rows, kFewestScoreRows);
    EXPECT_LT(a.score_rows, 2048);
    if (a.score_rows > kFewestScoreRows) {
      EXPECT_LE(a.score_rows * a.max_index_rows * 4, kScoreBytes) << n_ctx;
    }
  }
}

// One block, whatever the step's rows, so that one transfer fills it.
TEST(Activations, InputsLieTogether) {
  std::vector<int32_t> memory(5 * 64);
  Activations a;
  a.token = memory.data();
  for (const int n : {1, 7, 64}) {
    place_inputs(n, a);
    EXPECT_EQ(a.token, memory.data());
    EXPECT_EQ(a.position, memory.data() + n);
    EXPECT_EQ(a.slot, memory.data() + 2 * n);
    EXPECT_EQ(a.first_row, memory.data() + 3 * n);
    EXPECT_EQ(a.logits_rows, memory.data() + 4 * n);
  }
}

}  // namespace
}  // namespace narwhal
