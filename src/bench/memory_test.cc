// What a run takes beside the weights, against the plan that is printed before it.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "backend/cpu/kernels/level.h"
#include "bench/machine.h"
#include "bench/walk.h"
#include "narwhal/engine.h"

namespace narwhal::bench {
namespace {

constexpr int kChunk = 1536, kCtx = 4096;

uint64_t slack(uint64_t planned) {
  return std::max<uint64_t>(planned * 3 / 100, uint64_t{8} << 20);
}

class Memory : public testing::TestWithParam<cpu::Level> {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers take memory of their own";
#endif
    if (!memory_use()) GTEST_SKIP() << "the system does not tell";
#ifdef __GLIBC__
    malloc_trim(0);  // what earlier tests gave back would hide what this one takes
#endif
    before_ = memory_use()->anonymous;
    auto engine = Engine::open({.cpu_level = std::string(cpu::level_name(GetParam())),
                                .n_threads = 2,
                                .n_ctx = kCtx,
                                .prefill_chunk = kChunk});
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    engine_ = std::move(*engine);
    session_ = *engine_->new_session();
  }
  // Appends in pieces of n.
  void feed(int64_t n_tokens, int64_t n) {
    const auto ids = random_tokens(1, n_tokens, engine_->info().n_vocab);
    for (int64_t at = 0; at < n_tokens; at += n)
      ASSERT_TRUE(session_->append(std::span(ids).subspan(at, std::min(n, n_tokens - at))).ok());
  }
  uint64_t taken() const {
    const uint64_t now = memory_use()->anonymous;
    return now - std::min(now, before_);
  }
  void expect_near(uint64_t planned) const {
    EXPECT_LE(taken(), planned + slack(planned)) << planned << " planned";
    EXPECT_GE(taken() + slack(planned), planned) << taken() << " taken";
  }

  uint64_t before_ = 0;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Session> session_;
};

TEST_P(Memory, AFullSessionTakesWhatThePlanSays) {
  feed(kCtx, kChunk);
  expect_near(engine_->plan().run_bytes());
  expect_near(engine_->used_bytes());
}

TEST_P(Memory, AShortPromptTakesWhatItUses) {
  feed(128, 128);
  EXPECT_LT(engine_->used_bytes(), engine_->plan().run_bytes() / 2);
  expect_near(engine_->used_bytes());
}

TEST_P(Memory, KeptFrontiersAndScoresAreCountedAsTheyCome) {
  feed(2048, kChunk);
  const uint64_t before = engine_->used_bytes();
  feed(1792, 128);  // pieces that each leave a frontier to keep
  EXPECT_GT(engine_->used_bytes(), before + engine_->plan().kept_bytes / 8);
  const auto ids = random_tokens(2, 256, engine_->info().n_vocab);
  ASSERT_TRUE(session_->append(ids, {}, [](int64_t, std::span<const float>) {}).ok());
  EXPECT_LE(engine_->used_bytes(), engine_->plan().most_bytes());
  expect_near(engine_->used_bytes());
}

// The two fastest: with tiles and without, they keep activations in different ways.
std::vector<cpu::Level> fastest() {
  const auto& all = cpu::available_levels();
  return {all.end() - std::min<std::ptrdiff_t>(2, std::ssize(all)), all.end()};
}

INSTANTIATE_TEST_SUITE_P(Fastest, Memory, testing::ValuesIn(fastest()),
                         [](const auto& i) { return std::string(cpu::level_name(i.param)); });

}  // namespace
}  // namespace narwhal::bench
