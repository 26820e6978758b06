// The whole forward pass by the shared kernels: goldens, and what must hold for any weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "../model/golden.h"
#include "../model/random_model.h"
#include "devices.h"
#include "narwhal/sampler.h"

namespace narwhal {
namespace {

class GpuForward : public testing::TestWithParam<std::string>, protected Goldens {};

void expect_same(std::span<const float> a, std::span<const float> b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++) ASSERT_EQ(a[i], b[i]) << what << " at " << i;
}

TEST_P(GpuForward, GoldenLogits) {
  const Tiny tiny("f32");
  Rig rig(tiny.config, tiny.weights, KvPrecision::kF32, GetParam(), 1, 1, 1024, 700);
  for (const int n : {1, 5, 40, 129, 300, 700}) {
    if (is_emulated(GetParam()) && n > 130) break;
    const auto got = rig.run(0, values<int32_t>("prompt." + std::to_string(n)), 0, n);
    const double worst = worst_difference(got, values<float>("logits." + std::to_string(n)));
    EXPECT_LT(worst, 2e-4) << n;
    RecordProperty("worst_" + std::to_string(n), std::to_string(worst));
  }
}

TEST_P(GpuForward, EightBitWeights) {
  const Tiny tiny("q8_0");
  Rig gpu(tiny.config, tiny.weights, KvPrecision::kF32, GetParam(), 1, 1, 1024, 40),
      ref(tiny.config, tiny.weights, KvPrecision::kF32, "ref", 1, 1, 1024, 40);
  const auto ids = values<int32_t>("prompt.40");
  const auto want = ref.run(0, ids, 0, 40);
  EXPECT_LT(worst_difference(gpu.run(0, ids, 0, 40), want), 2e-4);
}

// Logits of all of `ids`, in steps of so many rows.
std::vector<float> in_steps(Rig& rig, int slot, std::span<const int32_t> ids,
                            std::vector<int64_t> steps) {
  std::vector<float> out;
  int64_t at = 0;
  for (size_t i = 0; at < std::ssize(ids); i = std::min(i + 1, steps.size() - 1)) {
    const int64_t end = std::min<int64_t>(at + steps[i], std::ssize(ids));
    for (const float x : rig.run(slot, {ids.begin(), ids.end()}, at, end)) out.push_back(x);
    at = end;
  }
  return out;
}

// Steps of up to 16 rows always, and any steps where products are exact.
TEST_P(GpuForward, ChunksBatchesAndReplaysGiveTheSameBits) {
  const Config config = small_config();
  const RandomWeights weights(config);
  for (const KvPrecision precision : {KvPrecision::kTrained, KvPrecision::kF32}) {
    const bool exact = precision == KvPrecision::kF32;
    Rig rig(config, weights.weights(), precision, GetParam());
    const auto a = random_tokens(140, config.n_vocab), b = random_tokens(140, config.n_vocab, 10);
    const auto want_a = in_steps(rig, 0, a, {exact ? 140 : 16}),
               want_b = in_steps(rig, 1, b, {exact ? 140 : 16});
    // In chunks, and token by token, which a GPU replays from the third on.
    const auto steps = exact ? std::vector<int64_t>{70, 61, 1} : std::vector<int64_t>{13, 16, 9, 1};
    const auto got = in_steps(rig, 2, std::span(a).first(exact ? 136 : 60), steps);
    expect_same(got, std::span(want_a).first(got.size()), "chunks");
    // Two sequences in one step.
    in_steps(rig, 0, std::span(a).first(130), {exact ? 130 : 16});
    in_steps(rig, 1, std::span(b).first(133), {exact ? 133 : 16});
    for (int i = 0; i < 4; i++) {
      const auto both =
          rig.step({{rig.slot(1), 133 + i, std::span(b).subspan(133 + i, 1), LogitsOf::kLast},
                    {rig.slot(0), 130 + i, std::span(a).subspan(130 + i, 1), LogitsOf::kLast}});
      const int v = config.n_vocab;
      expect_same(std::span(both).first(v), std::span(want_b).subspan((133 + i) * v, v), "first");
      expect_same(std::span(both).subspan(v), std::span(want_a).subspan((130 + i) * v, v),
                  "second");
    }
  }
}

// Halves on matrix units against f32: attention here, since the weights are f32. The cache is f32,
// too, so that no code of a row flips.
TEST_P(GpuForward, LongStepsStayNearShortOnes) {
  const Config config = small_config();
  const RandomWeights weights(config);
  Rig rig(config, weights.weights(), KvPrecision::kF32, GetParam() + "_rounded");
  const auto ids = random_tokens(140, config.n_vocab);
  const auto want = in_steps(rig, 0, ids, {16});
  for (const auto& steps : {std::vector<int64_t>{140}, {70, 17, 1, 40}}) {
    const auto got = in_steps(rig, 1, ids, steps);
    // Of rows, since a choice between near equals, of an expert or of a compressed row, may flip.
    std::vector<double> worst(ids.size());
    for (size_t i = 0; i < want.size(); i++) {
      double& row = worst[i / config.n_vocab];
      row = std::max(row, distance(got[i], want[i]));
    }
    std::nth_element(worst.begin(), worst.begin() + 70, worst.end());
    EXPECT_LT(worst[70], 3e-3) << steps.size() << " steps";
  }
}

TEST_P(GpuForward, AgreesWithTheReferenceInTrainedPrecision) {
  const Config config = small_config();
  const RandomWeights weights(config);
  const auto ids = random_tokens(20, config.n_vocab);
  Rig gpu(config, weights.weights(), KvPrecision::kTrained, GetParam()),
      ref(config, weights.weights(), KvPrecision::kTrained, "ref");
  // Rounding of KV rows turns last bits into whole steps, so single logits may differ by more.
  const auto got = in_steps(gpu, 0, ids, {16}), want = ref.run(0, ids, 0, 20);
  double difference = 0, size = 0;
  for (size_t i = 0; i < want.size(); i++) {
    difference += std::fabs(double(got[i]) - want[i]);
    size += std::fabs(want[i]);
  }
  EXPECT_LT(difference, 2e-3 * size);
}

// Sanitizers see every kernel in the op tests; whole models on the emulator would take them an
// hour.
std::vector<std::string> whole_model_backends() {
  std::vector<std::string> names = kernel_backends();
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  std::erase_if(names, is_emulated);
#endif
  return names;
}
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GpuForward);

TEST_P(GpuForward, ExpertsOnTheHostChangeNothing) {
  if (!(*make_backend(GetParam(), {}))->reads_host_memory()) GTEST_SKIP() << "has one memory";
  const std::vector<int32_t> prompt = random_tokens(40, 512, 9);
  const auto logits = [&](int64_t gpu_memory_mb, uint64_t& on_host) {
    auto engine =
        Engine::open({.backend = GetParam(), .n_ctx = 512, .gpu_memory_mb = gpu_memory_mb});
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    on_host = (*engine)->plan().host_weights_bytes;
    EXPECT_TRUE((*engine)->plan().fits());
    auto session = *(*engine)->new_session();
    EXPECT_TRUE(session->sync(prompt).ok());
    return std::vector<float>(session->logits().begin(), session->logits().end());
  };
  uint64_t none = 1, some = 0;
  const auto want = logits(0, none);
  const int64_t all_mb = static_cast<int64_t>(
      Engine::inspect({.backend = GetParam(), .n_ctx = 512})->second.total_bytes >> 20);
  testing::internal::CaptureStderr();
  EXPECT_EQ(logits(all_mb - 4, some), want);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find(std::to_string(some >> 20) + " MiB of experts stay in this machine's memory"),
            std::string::npos)
      << said;
  EXPECT_EQ(none, 0u);
  EXPECT_GT(some, 3u << 20);
  const auto tight = Engine::open({.backend = GetParam(), .n_ctx = 512, .gpu_memory_mb = 2});
  EXPECT_EQ(tight.status().code(), Code::kNoMemory);
}

// What the device found of the logits gives the same answers as all of them, alone and beside
// another session.
TEST_P(GpuForward, CandidatesGiveTheAnswersOfWholeRows) {
  auto engine = Engine::open({.backend = GetParam(), .n_ctx = 512, .n_sessions = 2});
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const int n_vocab = static_cast<int>((*engine)->info().n_vocab);
  const SamplingOptions options[] = {
      {.temperature = 0},
      {.temperature = 1, .top_p = 0.95f, .presence_penalty = 0.5f, .seed = 3},
      {.temperature = 1.5f, .top_p = 1, .seed = 4, .banned = {7, 8, 9}},
  };
  for (const SamplingOptions& o : options) {
    const std::vector<int32_t> prompt = random_tokens(12, n_vocab, 9);
    auto a = *(*engine)->new_session(), b = *(*engine)->new_session();
    ASSERT_TRUE(a->sync(prompt).ok() && b->sync(prompt).ok());
    Sampler by_candidates(o), by_row(o);
    for (int i = 0; i < 8; i++) {
      const auto got = by_candidates.sample(Prediction{a->candidates(), [] {
                                                         ADD_FAILURE() << "a row was asked for";
                                                         return std::span<const float>();
                                                       }});
      const auto want = by_row.sample(b->logits());
      ASSERT_TRUE(got.ok() && want.ok());
      ASSERT_EQ(*got, *want) << "token " << i;
      by_candidates.accept(*got);
      by_row.accept(*want);
      if (i % 2 == 0) {
        const Engine::Append parts[] = {{a.get(), {&*got, 1}}, {b.get(), {&*got, 1}}};
        ASSERT_TRUE((*engine)->step(parts).ok());
      } else {
        ASSERT_TRUE(a->append({&*got, 1}).ok() && b->append({&*got, 1}).ok());
      }
    }
  }
}

// Rows stay on the device until they are asked for, or until the next step needs their place.
TEST_P(GpuForward, LogitsOutliveTheStepsOfOthers) {
  auto engine = Engine::open({.backend = GetParam(), .n_ctx = 512, .n_sessions = 3});
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const int n_vocab = static_cast<int>((*engine)->info().n_vocab);
  const std::vector<int32_t> ids = random_tokens(8, n_vocab, 5);
  const auto row_of = [](const Session& s) {
    return std::vector<float>(s.logits().begin(), s.logits().end());
  };
  auto a = *(*engine)->new_session(), b = *(*engine)->new_session();
  EXPECT_TRUE(a->logits().empty());
  EXPECT_EQ(a->candidates().n, 0);
  ASSERT_TRUE(a->append(std::span(ids).first(4)).ok());
  const auto first = row_of(*a);
  ASSERT_EQ(std::ssize(first), n_vocab);
  ASSERT_TRUE(b->append(std::span(ids).first(4)).ok());
  auto copy = *b->fork();
  ASSERT_TRUE(a->append(std::span(ids).subspan(4)).ok());
  EXPECT_EQ(row_of(*b), first);
  EXPECT_EQ(row_of(*copy), first);
  const Candidates want = candidates_of(first);
  EXPECT_EQ(copy->candidates().n, want.n);
  for (int i = 0; i < want.n; i++) {
    ASSERT_EQ(copy->candidates().ids[i], want.ids[i]);
    ASSERT_EQ(copy->candidates().logits[i], want.logits[i]);
  }
  // A step without logits, and a step back.
  const Engine::Append part{b.get(), std::span(ids).subspan(4, 1), false};
  ASSERT_TRUE((*engine)->step({&part, 1}).ok());
  EXPECT_TRUE(b->logits().empty());
  EXPECT_EQ(b->candidates().n, 0);
  const auto last = row_of(*a);
  EXPECT_NE(last, first);
  ASSERT_TRUE(b->rewind(2).ok());
  EXPECT_TRUE(b->logits().empty());
  EXPECT_EQ(row_of(*a), last);
}

// The emulator computes in this machine's memory, to which nothing can be moved.
TEST(Emulator, MovesNoExpertsWithoutALimit) {
  const auto plan = [](int n_sessions) {
    return Engine::inspect({.backend = "emu", .n_ctx = 512, .n_sessions = n_sessions})->second;
  };
  const MemoryPlan one = plan(1);
  const uint64_t each = one.kv_session_bytes + one.frontier_bytes;
  const auto most = static_cast<int>((one.available_bytes - one.total_bytes) / each + 1);
  for (int more = 0; more < 3; more++)  // too many by less than the experts
    EXPECT_EQ(plan(most + more).host_weights_bytes, 0u) << most + more << " sessions";
}

INSTANTIATE_TEST_SUITE_P(Devices, GpuForward, testing::ValuesIn(whole_model_backends()),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace narwhal
