#include "bench/limits.h"

#include <gtest/gtest.h>

namespace narwhal::bench {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30, kMiB = uint64_t{1} << 20;

TEST(Limits, TheBufferTakesHalfOfWhatIsFreeAtMost) {
  EXPECT_EQ(read_buffer_bytes(4 * kGiB, 16 * kGiB), 4 * kGiB);
  EXPECT_EQ(read_buffer_bytes(4 * kGiB, 8 * kGiB), 4 * kGiB);
  EXPECT_EQ(read_buffer_bytes(4 * kGiB, 6 * kGiB + 12345), 3 * kGiB);
  EXPECT_EQ(read_buffer_bytes(4 * kGiB, 1), kMiB);
  EXPECT_EQ(read_buffer_bytes(4 * kGiB, 0), 4 * kGiB);  // the system does not tell
}

TEST(Limits, TheReadingLoopReadsEveryLine) {
  alignas(64) uint64_t lines[11 * 8];
  uint64_t sum = 0;
  for (int i = 0; i < 11 * 8; i++) {
    lines[i] = uint64_t{1} << (i % 60);
    if (i % 8 == 0) {
      EXPECT_EQ(sum_lines(lines, i / 8), sum);
    }
    sum += lines[i];
  }
}

TEST(Limits, SomethingIsMeasured) {
  const Limits limits = measure_limits({.n_threads = 2,
                                        .read_bytes = 2 * kMiB,
                                        .read_passes = 2,
                                        .peak_seconds = 1e-4,
                                        .peak_rounds = 1});
  EXPECT_EQ(limits.n_threads, 2);
  EXPECT_EQ(limits.read.n_bytes, 2 * kMiB);
  EXPECT_FALSE(limits.read.reduced);
  EXPECT_GT(limits.read.gb_per_s, 0);
  for (const IntegerPeak& p : limits.peaks) EXPECT_GT(p.gops, 0) << p.level;
}

TEST(Limits, BestOfAKind) {
  Limits limits;
  EXPECT_EQ(limits.vector_gops(), 0);
  limits.peaks = {{"a", false, 10}, {"b", false, 30}, {"c", true, 500}};
  EXPECT_EQ(limits.vector_gops(), 30);
  EXPECT_EQ(limits.matrix_gops(), 500);
}

}  // namespace
}  // namespace narwhal::bench
