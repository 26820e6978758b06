// What must hold for any weights: how a prompt is cut, who else is in the batch, how many threads
// work and what stale memory contains never changes a bit.
#include <gtest/gtest.h>

#include "backend/cpu/kernels/level.h"
#include "random_model.h"

namespace narwhal {
namespace {

constexpr int64_t kTokens = 300;

class Invariants : public testing::TestWithParam<KvPrecision> {
 protected:
  Rig rig(const std::string& backend = "cpu", int n_threads = 2) {
    return Rig(config_, weights_.weights(), GetParam(), backend, n_threads);
  }
  std::span<const float> row(const std::vector<float>& logits, int64_t r) const {
    return std::span(logits).subspan(r * config_.n_vocab, config_.n_vocab);
  }
  Config config_ = small_config();
  RandomWeights weights_{config_};
  std::vector<int32_t> ids_ = random_tokens(kTokens, config_.n_vocab);
};

void expect_same(std::span<const float> a, std::span<const float> b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++) ASSERT_EQ(a[i], b[i]) << what << " at " << i;
}

TEST_P(Invariants, EverySplitOfAPromptIsOneShot) {
  Rig r = rig();
  const auto want = r.run(0, ids_, 0, kTokens);
  ASSERT_FALSE(std::isnan(want.back()));
  for (int64_t split = 1; split < kTokens; split++) {
    auto got = r.run(1, ids_, 0, split);
    const auto rest = r.run(1, ids_, split, kTokens);
    got.insert(got.end(), rest.begin(), rest.end());
    expect_same(got, want, "split " + std::to_string(split));
  }
}

TEST_P(Invariants, ManyChunksAreOneShot) {
  Rig r = rig();
  const auto want = r.run(0, ids_, 0, kTokens);
  for (const int64_t chunk : {1, 3, 4, 5, 127, 128, 129}) {
    std::vector<float> got;
    for (int64_t at = 0; at < kTokens; at += chunk) {
      const auto part = r.run(1, ids_, at, std::min(at + chunk, kTokens));
      got.insert(got.end(), part.begin(), part.end());
    }
    expect_same(got, want, "chunks of " + std::to_string(chunk));
  }
}

// Rolling state and rows are what later tokens are computed from, so equal logits above say that
// they are equal where it matters; this compares the stored rows themselves.
TEST_P(Invariants, CompressedRowsDoNotDependOnChunksAndNeverChange) {
  Rig r = rig();
  const auto rows_of = [&](int sequence, int64_t n_tokens) {
    std::vector<std::byte> bytes;
    for (int layer = 0; layer < config_.n_layers; layer++) {
      const LayerKv kv = layer_kv(config_, r.layout(), r.cache().memory(), layer);
      const LayerKind kind = config_.layers[layer];
      if (kind == LayerKind::kSliding) continue;
      const auto take = [&](const PagedRows& rows) {
        for (int64_t c = 0; c < n_tokens / static_cast<int>(kind); c++) {
          const std::byte* p = rows.at(r.slot(sequence), c);
          bytes.insert(bytes.end(), p, p + rows.format.bytes());
        }
      };
      take(kv.rows);
      if (kind == LayerKind::kCsa) take(kv.index_rows);
    }
    return bytes;
  };
  r.run(0, ids_, 0, 140);
  const auto early = rows_of(0, 140);
  r.run(0, ids_, 140, kTokens);
  EXPECT_EQ(rows_of(0, 140), early);
  for (int64_t at = 0; at < kTokens; at++) r.run(1, ids_, at, at + 1);
  EXPECT_EQ(rows_of(1, kTokens), rows_of(0, kTokens));
}

TEST_P(Invariants, SequencesOfABatchAreAlone) {
  Rig r = rig();
  const auto b = random_tokens(kTokens, config_.n_vocab, 10),
             c = random_tokens(kTokens, config_.n_vocab, 11);
  const auto alone_a = r.run(0, ids_, 0, 200), alone_b = r.run(1, b, 0, 150),
             alone_c = r.run(2, c, 0, 131);
  Rig batched = rig();
  const auto part = [](int slot, const std::vector<int32_t>& ids, int64_t begin, int64_t end) {
    return StepPart{slot, begin, std::span(ids).subspan(begin, end - begin), LogitsOf::kLast};
  };
  batched.step({part(batched.slot(2), c, 0, 130), part(batched.slot(0), ids_, 0, 7)});
  // A prefill chunk, a decode row and a whole prompt in one step.
  const auto logits =
      batched.step({part(batched.slot(0), ids_, 7, 140), part(batched.slot(2), c, 130, 131),
                    part(batched.slot(1), b, 0, 150)});
  expect_same(row(logits, 0), row(alone_a, 139), "chunk");
  expect_same(row(logits, 1), row(alone_c, 130), "decode row");
  expect_same(row(logits, 2), row(alone_b, 149), "prompt");
  const auto next = batched.step({part(batched.slot(0), ids_, 140, 200)});
  expect_same(row(next, 0), row(alone_a, 199), "continuation");
}

TEST_P(Invariants, ThreadsDoNotMatter) {
  Rig one = rig("cpu", 1), five = rig("cpu", 5);
  expect_same(one.run(0, ids_, 0, kTokens), five.run(0, ids_, 0, kTokens), "threads");
}

// Every instruction set has its own loops, so each is held to it.
TEST_P(Invariants, LevelsOfTheProcessorDoNotDependOnChunksOrThreads) {
  for (const cpu::Level level : cpu::available_levels()) {
    const std::string name = "cpu_" + std::string(cpu::level_name(level));
    const auto want = rig(name, 1).run(0, ids_, 0, kTokens);
    Rig r = rig(name, 3);
    std::vector<float> got;
    for (const auto& [begin, end] :
         {std::pair{0, 1}, {1, 2}, {2, 9}, {9, 40}, {40, 297}, {297, 300}}) {
      const auto part = r.run(1, ids_, begin, end);
      got.insert(got.end(), part.begin(), part.end());
    }
    expect_same(got, want, name);
  }
}

TEST_P(Invariants, LaterTokensDoNotReachBack) {
  Rig r = rig();
  const auto want = r.run(0, ids_, 0, kTokens);
  for (const int64_t t : {1, 3, 4, 5, 127, 128, 129, 255, 256, 299}) {
    auto changed = ids_;
    changed[t] = (changed[t] + 1) % config_.n_vocab;
    const auto got = r.run(1, changed, 0, kTokens);
    expect_same(std::span(got).first(t * config_.n_vocab),
                std::span(want).first(t * config_.n_vocab), "changed token " + std::to_string(t));
    EXPECT_FALSE(std::equal(row(got, t).begin(), row(got, t).end(), row(want, t).begin())) << t;
  }
}

// A slot that another sequence has used before: nothing of it may show.
TEST_P(Invariants, StaleStateNeverShows) {
  Rig r = rig();
  const auto want = r.run(0, ids_, 0, kTokens);
  r.run(1, random_tokens(310, config_.n_vocab, 77), 0, 310);
  expect_same(r.run(1, ids_, 0, kTokens), want, "used slot");
}

TEST_P(Invariants, RejectedDraftsLeaveNoTrace) {
  Rig r = rig();
  const auto want = r.run(0, ids_, 0, kTokens);
  for (const int64_t at : {124, 125, 126, 127, 128, 129, 131, 160}) {
    for (int n_drafts = 1; n_drafts <= kSpareEntries; n_drafts += 5) {
      r.run(1, ids_, 0, at);
      auto draft = ids_;
      for (int i = 0; i < n_drafts; i++) draft[at + i] = (draft[at + i] + 1) % config_.n_vocab;
      r.run(1, draft, at, at + n_drafts);
      const auto got = r.run(1, ids_, at, kTokens);
      expect_same(got, std::span(want).subspan(at * config_.n_vocab),
                  "drafts at " + std::to_string(at));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, Invariants,
                         testing::Values(KvPrecision::kTrained, KvPrecision::kF32),
                         [](const auto& i) {
                           return i.param == KvPrecision::kTrained ? "trained" : "f32";
                         });

// Independent of the invariants above: the two backends compute the same function.
TEST(Backends, CpuAgreesWithTheReference) {
  const Config config = small_config();
  const RandomWeights weights(config);
  const auto ids = random_tokens(150, config.n_vocab);
  Rig cpu(config, weights.weights(), KvPrecision::kF32),
      ref(config, weights.weights(), KvPrecision::kF32, "ref");
  const auto got = cpu.run(0, ids, 0, 150), want = ref.run(0, ids, 0, 150);
  for (size_t i = 0; i < want.size(); i++) ASSERT_NEAR(got[i], want[i], 2e-4) << i;
}

// The simulated rounding is part of the model: it must change something, and not much.
TEST(Backends, RoundingIsSimulated) {
  const Config config = small_config();
  const RandomWeights weights(config);
  const auto ids =
      random_tokens(24, config.n_vocab);  // few enough that every row is selected anyway
  Rig trained(config, weights.weights(), KvPrecision::kTrained),
      exact(config, weights.weights(), KvPrecision::kF32);
  const auto a = trained.run(0, ids, 0, 24), b = exact.run(0, ids, 0, 24);
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); i++) {
    difference += std::fabs(double(a[i]) - b[i]);
    size += std::fabs(b[i]);
  }
  EXPECT_GT(difference, 1e-4 * size);
  EXPECT_LT(difference, 0.2 * size);
}

// Sliding layers see relative positions only.
TEST(Backends, SlidingLayersAreTranslationInvariant) {
  Config config = small_config();
  config.layers.assign(config.n_layers, LayerKind::kSliding);
  const RandomWeights weights(config);
  Rig r(config, weights.weights(), KvPrecision::kF32);
  // Four layers reach 60 tokens back, so after 70 equal tokens only the positions differ.
  const std::vector<int32_t> lead(70, 3);
  std::vector<int32_t> shifted = lead;
  shifted.insert(shifted.end(), lead.begin(), lead.end());
  const auto near = r.run(0, lead, 0, 70), far = r.run(1, shifted, 0, 140);
  for (int i = 0; i < config.n_vocab; i++)
    EXPECT_NEAR(near[69 * config.n_vocab + i], far[139 * config.n_vocab + i], 1e-4);
}

}  // namespace
}  // namespace narwhal
