// The converter and the forward pass together against logits of an independent implementation
// (transformers, float32, no rounding simulated; tests/data/tiny).
#include "golden.h"

#include "random_model.h"

namespace narwhal {
namespace {

class Golden : public testing::Test, protected Goldens {};

constexpr int kLengths[] = {1, 3, 4, 5, 40, 127, 129, 300, 700};

TEST_F(Golden, LogitsOfEveryPromptAtEveryPosition) {
  const Tiny tiny("f32");
  Rig rig(tiny.config, tiny.weights, KvPrecision::kF32, "cpu", 2, 1, 1024, 700);
  for (const int n : kLengths) {
    const auto ids = values<int32_t>("prompt." + std::to_string(n));
    const auto got = rig.run(0, ids, 0, n);
    const double worst = worst_difference(got, values<float>("logits." + std::to_string(n)));
    EXPECT_LT(worst, 2e-4) << n;
    RecordProperty("worst_" + std::to_string(n), std::to_string(worst));
  }
}

TEST_F(Golden, ReferenceBackend) {
  const Tiny tiny("f32");
  Rig rig(tiny.config, tiny.weights, KvPrecision::kF32, "ref", 1, 1, 1024, 129);
  for (const int n : {5, 129}) {
    const auto ids = values<int32_t>("prompt." + std::to_string(n));
    EXPECT_LT(worst_difference(rig.run(0, ids, 0, n), values<float>("logits." + std::to_string(n))),
              2e-4)
        << n;
  }
}

TEST_F(Golden, StreamsAfterEveryLayer) {
  const Tiny tiny("f32");
  Rig rig(tiny.config, tiny.weights, KvPrecision::kF32, "cpu", 2, 1, 1024, 40);
  std::vector<float> got;
  rig.runner().forward().observe(
      [&](std::string_view name, int layer, const float* data, int64_t n) {
        if (name == "streams" && layer < tiny.config.n_layers - 1)
          got.insert(got.end(), data, data + n);
      });
  rig.run(0, values<int32_t>("prompt.40"), 0, 40);
  EXPECT_LT(worst_difference(got, values<float>("streams.40")), 2e-4);
}

TEST_F(Golden, EightBitWeightsAgreeInTheFirstChoice) {
  const Tiny tiny("q8_0");
  Rig rig(tiny.config, tiny.weights, KvPrecision::kF32, "cpu", 2, 1, 1024, 700);
  const int n_vocab = tiny.config.n_vocab;
  int right = 0, total = 0;
  for (const int n : kLengths) {
    const auto got = rig.run(0, values<int32_t>("prompt." + std::to_string(n)), 0, n);
    const auto want = values<float>("logits." + std::to_string(n));
    const auto choice = [&](const std::vector<float>& v, int r) {
      return std::max_element(v.begin() + r * n_vocab, v.begin() + (r + 1) * n_vocab) - v.begin();
    };
    for (int r = 0; r < n; r++) right += choice(got, r) == choice(want, r);
    total += n;
  }
  EXPECT_EQ(total, 1309);
  EXPECT_GE(right, total * 9 / 10);
  RecordProperty("right", right);
}

// Quantised weights are decoded exactly: the fast backend and the scalar judge read the same model.
TEST_F(Golden, EightBitWeightsAgreeWithTheReferenceBackend) {
  const Tiny tiny("q8_0");
  Rig cpu(tiny.config, tiny.weights, KvPrecision::kF32, "cpu", 2, 1, 1024, 40);
  Rig ref(tiny.config, tiny.weights, KvPrecision::kF32, "ref", 1, 1, 1024, 40);
  const auto ids = values<int32_t>("prompt.40");
  EXPECT_LT(worst_difference(cpu.run(0, ids, 0, 40), ref.run(0, ids, 0, 40)), 2e-4);
}

}  // namespace
}  // namespace narwhal
