// What a run takes beside the weights, against the plan that is printed before it.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "bench/machine.h"
#include "bench/walk.h"
#include "narwhal/engine.h"

namespace narwhal::bench {
namespace {

TEST(Memory, ARunTakesWhatThePlanSays) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers take memory of their own";
#endif
  constexpr int kChunk = 1536, kPiece = 128;
  const auto before = memory_use();
  if (!before) GTEST_SKIP() << "the system does not tell";
  const auto engine = *Engine::open({.n_threads = 2, .n_ctx = 4096, .prefill_chunk = kChunk});
  auto session = *engine->new_session();
  // A whole chunk for the workspace, then pieces that each leave a frontier to keep.
  const std::vector<int32_t> ids = random_tokens(1, 4000, engine->info().n_vocab);
  for (size_t at = 0; at < ids.size();) {
    const size_t n = std::min<size_t>(at == 0 ? kChunk : kPiece, ids.size() - at);
    ASSERT_TRUE(session->append({&ids[at], n}).ok());
    at += n;
  }
  const auto after = memory_use();
  ASSERT_TRUE(after);
  const MemoryPlan& plan = engine->plan();
  const uint64_t planned = plan.total_bytes - plan.weights_bytes;
  const uint64_t taken = after->anonymous - std::min(after->anonymous, before->anonymous);
  const uint64_t slack = std::max<uint64_t>(planned * 3 / 100, uint64_t{8} << 20);
  EXPECT_LE(taken, planned + slack);
  // Rows of logits and kept frontiers may stay untouched, the rest is no guess.
  EXPECT_GE(taken, planned * 3 / 4);
}

}  // namespace
}  // namespace narwhal::bench
