// What the CPU backend adds to the contract of ops: the same bits however rows are batched and
// however many threads work, for every level and every weight type.
#include "backend/cpu/cpu_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "backend/backend.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

constexpr int kRows = 61, kChoices = 3, kExperts = 5;
constexpr int64_t kWidth = 512, kInner = 256;

std::vector<float> random(int64_t n, uint32_t seed, float scale = 1) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> v(n);
  for (float& x : v) x = normal(rng);
  return v;
}

struct Stored {
  std::vector<std::byte> bytes;
  Weight w;
  Stored(DType type, int64_t n_in, int64_t n_out, int64_t n_experts, uint32_t seed) {
    const auto values = random(n_in * n_out * n_experts, seed, 0.05f);
    const std::vector<float> importance(n_in, 1.0f);
    bytes.resize(row_bytes(type, n_in) * n_out * n_experts);
    for (int64_t r = 0; r < n_out * n_experts; r++)
      quant::encode_row(type, &values[r * n_in], n_in, importance.data(),
                        &bytes[r * row_bytes(type, n_in)]);
    w = {bytes.data(), type, n_in, n_out, n_experts};
  }
};

class CpuOpsOnLevels : public testing::TestWithParam<cpu::Level> {
 protected:
  std::unique_ptr<CpuOps> make(int n_threads) const {
    auto ops = std::make_unique<CpuOps>(n_threads, cpu::kernels(GetParam()), false);
    ops->prepare({.n_rows = kRows,
                  .max_width = static_cast<int>(kWidth),
                  .n_experts_used = kChoices,
                  .n_experts = kExperts});
    return ops;
  }
};

TEST_P(CpuOpsOnLevels, RoutedExpertsDoNotSeeTheBatchOrTheThreads) {
  for (const auto& [up, down] :
       {std::pair{DType::kIQ2_XXS, DType::kQ2_K}, std::pair{DType::kQ4_K, DType::kQ4_K},
        std::pair{DType::kMXFP4, DType::kMXFP4}, std::pair{DType::kQ8_0, DType::kF16}}) {
    const Stored w1(up, kWidth, kInner, kExperts, 1), w3(up, kWidth, kInner, kExperts, 2),
        w2(down, kInner, kWidth, kExperts, 3);
    const ExpertParams p{w1.w, w3.w, w2.w, 10.0f};
    const auto x = random(kRows * kWidth, 4), weights = random(kRows * kChoices, 5);
    std::vector<int32_t> ids(kRows * kChoices);
    for (int r = 0; r < kRows; r++)
      for (int i = 0; i < kChoices; i++) ids[r * kChoices + i] = (r / 7 + i) % (kExperts - 1);
    std::vector<float> hidden(kRows * kChoices * kInner), want(kRows * kWidth), got = want;
    make(1)->routed_experts(p, kRows, kChoices, x.data(), ids.data(), weights.data(), hidden.data(),
                            want.data());
    EXPECT_TRUE(std::isfinite(want[0]) && want[0] != 0);
    const auto ops = make(3);
    ops->routed_experts(p, kRows, kChoices, x.data(), ids.data(), weights.data(), hidden.data(),
                        got.data());
    EXPECT_EQ(got, want) << "threads";
    for (int first = 0, n = 1; first < kRows; first += n, n = std::min(2 * n, kRows - first))
      ops->routed_experts(p, n, kChoices, &x[first * kWidth], &ids[first * kChoices],
                          &weights[first * kChoices], hidden.data(), &got[first * kWidth]);
    EXPECT_EQ(got, want) << "parts of the batch, " << dtype_name(up);
  }
}

TEST_P(CpuOpsOnLevels, ScratchIsCountedAndGrowsWithTheStep) {
  const Stored w(DType::kQ8_0, kWidth, 96, 1, 6);
  const auto x = random(kRows * kWidth, 7);
  std::vector<float> y(kRows * 96);
  const auto ops = make(2);
  const int64_t before = ops->scratch_bytes({.n_rows = kRows, .max_width = kWidth});
  EXPECT_GT(before, 0);
  EXPECT_GT(ops->scratch_bytes({.n_rows = 2 * kRows, .max_width = kWidth}), before);
  ops->matmul(w.w, kRows, x.data(), y.data());
  for (const float v : y) ASSERT_TRUE(std::isfinite(v));
}

INSTANTIATE_TEST_SUITE_P(All, CpuOpsOnLevels, testing::ValuesIn(cpu::available_levels()),
                         [](const auto& i) { return std::string(cpu::level_name(i.param)); });

}  // namespace
}  // namespace narwhal
