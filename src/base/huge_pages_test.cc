#include "base/huge_pages.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace narwhal {
namespace {

TEST(HugePages, AlignedZerosOfAnySize) {
  for (const int64_t n_bytes : {int64_t{1}, int64_t{2} << 20, (int64_t{40} << 20) + 1})
    for (const int n_threads : {1, 3}) {
      std::byte* const memory = map_huge(n_bytes, n_threads);
      ASSERT_NE(memory, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % (2 << 20), 0u);
      EXPECT_TRUE(
          std::all_of(memory, memory + n_bytes, [](std::byte b) { return b == std::byte{}; }));
      std::fill(memory, memory + n_bytes, std::byte{1});
      unmap_huge(memory, n_bytes);
    }
}

TEST(HugePages, MoreThanThereIsIsRefused) { EXPECT_EQ(map_huge(int64_t{1} << 60, 2), nullptr); }

}  // namespace
}  // namespace narwhal
