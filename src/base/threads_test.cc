#include "base/threads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

namespace narwhal {
namespace {

TEST(ThreadPool, EveryIndexOnceWhateverTheSizes) {
  for (const int n_threads : {1, 2, 5}) {
    ThreadPool pool(n_threads);
    EXPECT_EQ(pool.size(), n_threads);
    for (const int64_t n : {0, 1, 2, 7, 64, 1000}) {
      for (const int64_t grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> seen(n);
        std::atomic<bool> good = true;
        pool.run(n, grain, [&](int64_t begin, int64_t end, int thread) {
          if (begin >= end || end - begin > std::min(grain, n) || thread < 0 || thread >= n_threads)
            good = false;
          for (int64_t i = begin; i < end; i++) seen[i]++;
        });
        EXPECT_TRUE(good) << n << ' ' << grain;
        EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](const auto& s) { return s == 1; }))
            << n_threads << ' ' << n << ' ' << grain;
      }
    }
  }
}

TEST(ThreadPool, ResultsAreVisibleAfterRun) {
  ThreadPool pool(4);
  std::vector<int64_t> squares(1000);
  for (int round = 0; round < 200; round++) {
    pool.run(1000, 7, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i++) squares[i] = i * i + round;
    });
    int64_t sum = 0;
    for (const int64_t s : squares) sum += s;
    ASSERT_EQ(sum, 332833500 + 1000 * round);
  }
}

TEST(ThreadPool, AtMostOneChunkAThreadAtATime) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> busy(4);
  std::atomic<bool> overlapped = false;
  pool.run(2000, 1, [&](int64_t, int64_t, int thread) {
    if (busy[thread]++ != 0) overlapped = true;
    busy[thread]--;
  });
  EXPECT_FALSE(overlapped);
}

TEST(ThreadPool, StopsWithoutEverHavingRun) {
  for (int i = 0; i < 50; i++) ThreadPool pool(3);
}

TEST(Threads, DefaultCountIsPositive) { EXPECT_GE(default_thread_count(), 1); }

}  // namespace
}  // namespace narwhal
