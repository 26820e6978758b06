#include "backend/emu/machine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace narwhal::emu {
namespace {

using kernels::Group;

// What a kernel body gets besides its place.
struct Out {
  float* values;
};

template <class F>
void launch(F, Out& out, int64_t shared_bytes, int64_t n_groups, int n_threads) {
  Machine machine;
  machine.launch(
      [](const void* k, const Group& g, void* shared) {
        F()
        (*static_cast<const Out*>(k), g, shared);
      },
      &out, shared_bytes, n_groups, n_threads);
}

TEST(Machine, BarriersAndSimdOperationsJoinThreads) {
  std::vector<float> sums(3 * 96);
  Out out{sums.data()};
  const auto body = [](const Out& o, const Group& g, void* shared) {
    auto* part = static_cast<float*>(shared);
    const float sum = g.simd_sum(static_cast<float>(g.index));
    if (g.lane == 0) part[g.simd] = sum;
    g.barrier();
    float all = 0;
    for (unsigned s = 0; s < g.n_simds(); s++) all += part[s];
    o.values[g.group * g.size + g.index] =
        all + static_cast<float>(g.simd_shuffle(g.index, g.lane ^ 1) == (g.index ^ 1));
  };
  launch(body, out, 3 * sizeof(float), 3, 96);
  for (const float s : sums) EXPECT_EQ(s, 95 * 96 / 2 + 1);
}

TEST(Machine, SharedMemoryStartsAsNaN) {
  std::vector<float> seen(2 * 32);
  Out out{seen.data()};
  const auto body = [](const Out& o, const Group& g, void* shared) {
    auto* memory = static_cast<float*>(shared);
    o.values[g.group * 32 + g.index] = memory[g.index];
    memory[g.index] = 1;
  };
  launch(body, out, 32 * sizeof(float), 2, 32);
  for (const float v : seen) EXPECT_TRUE(std::isnan(v));
}

TEST(Machine, CopiesArriveWhenTheyAreWaitedFor) {
  alignas(16) const float source[4] = {1, 2, 3, 4};
  std::vector<float> seen(2 * 32 * 2);
  struct Arguments : Out {
    const float* source;
  } out{{seen.data()}, source};
  const auto body = [](const Out& o, const Group& g, void* shared) {
    auto* mine = static_cast<uint16_t*>(shared) + 8 * g.index;
    float* place = o.values + (g.group * 32 + g.index) * 2;
    g.copy_async(mine, static_cast<const Arguments&>(o).source);
    std::memcpy(&place[0], mine + 2, 4);
    if (g.group == 0) g.copy_wait();  // the second group's never arrive
    std::memcpy(&place[1], mine + 2, 4);
  };
  launch(body, out, 32 * 16, 2, 32);
  for (int i = 0; i < 64; i++) {
    EXPECT_TRUE(std::isnan(seen[2 * i]));
    EXPECT_TRUE(i < 32 ? seen[2 * i + 1] == 2 : std::isnan(seen[2 * i + 1])) << i;
  }
}

TEST(Machine, AwaitingIsAThreadsOwnAndAGroups) {
  std::vector<float> seen(2 * 32);
  Out out{seen.data()};
  const auto body = [](const Out& o, const Group& g, void*) {
    if (g.group == 0 && g.index < 8) g.await_results();
    o.values[g.group * 32 + g.index] = g.machine->has_awaited() ? 1 : 0;
  };
  launch(body, out, 0, 2, 32);
  for (int i = 0; i < 64; i++) EXPECT_EQ(seen[i] == 1, i < 8) << i;
}

TEST(Machine, AReleaseBeforeAwaitingIsTold) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Out out{nullptr};
  const auto body = [](const Out&, const Group& g, void*) {
    if (g.index > 0) g.await_results();
    g.release_next();
  };
  EXPECT_DEATH(launch(body, out, 0, 1, 32), "before it has awaited");
}

TEST(Machine, ABarrierThatNotAllReachIsTold) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Out out{nullptr};
  const auto body = [](const Out&, const Group& g, void*) {
    if (g.index < 40) g.barrier();
  };
  EXPECT_DEATH(launch(body, out, 0, 1, 64), "24 threads ended, the others wait");
}

}  // namespace
}  // namespace narwhal::emu
