#include "backend/metal/pool.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace narwhal::metal {
namespace {

// Device addresses are the host's, shifted.
constexpr int64_t kShift = int64_t{1} << 44;

class CountedBuffers : public Buffers {
 public:
  Region make(int64_t n_bytes) override {
    if (n_bytes > most) return {};
    auto& memory = all.emplace_back(n_bytes);
    n_live++;
    return {memory.data() + kShift, memory.data(), n_bytes};
  }
  void drop(const Region& region) override {
    EXPECT_EQ(region.device, region.host + kShift);
    n_live--;
  }
  std::vector<std::vector<std::byte>> all;
  int64_t most = int64_t{1} << 40;
  int n_live = 0;
};

TEST(MetalPool, SmallPiecesShareABuffer) {
  CountedBuffers buffers;
  Pool pool(buffers);
  std::vector<std::byte*> pieces(100);
  for (std::byte*& piece : pieces) piece = pool.allocate(1000);
  EXPECT_EQ(pool.n_buffers(), 1);
  for (int i = 0; i < 100; i++) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pool.host_of(pieces[i], 1000)) -
                  reinterpret_cast<uintptr_t>(pool.host_of(pieces[0], 1)),
              1024u * i);
  }
  pool.allocate(Pool::kSmallBytes + 1);
  EXPECT_EQ(pool.n_buffers(), 2);
}

TEST(MetalPool, ReleasedMemoryIsZeroWhenItComesBack) {
  CountedBuffers buffers;
  Pool pool(buffers);
  std::byte* const first = pool.allocate(512);
  *pool.host_of(first, 1) = std::byte{7};
  pool.release(first);
  std::byte* const again = pool.allocate(512);
  EXPECT_EQ(again, first);
  EXPECT_EQ(*pool.host_of(again, 1), std::byte{0});
}

TEST(MetalPool, BuffersGoWithTheirLastPiece) {
  CountedBuffers buffers;
  {
    Pool pool(buffers);
    std::vector<std::byte*> pieces;
    while (pool.n_buffers() < 2) pieces.push_back(pool.allocate(Pool::kSmallBytes));
    for (std::byte* piece : pieces) pool.release(piece);
    EXPECT_EQ(pool.n_buffers(), 1);  // the slab in use stays
    std::byte* const large = pool.allocate(Pool::kSlabBytes);
    EXPECT_EQ(buffers.n_live, 2);
    pool.release(large);
    EXPECT_EQ(buffers.n_live, 1);
  }
  EXPECT_EQ(buffers.n_live, 0);
}

TEST(MetalPool, RefusalsAreTold) {
  CountedBuffers buffers;
  Pool pool(buffers);
  std::byte* const small = pool.allocate(1);
  EXPECT_NE(small, nullptr);
  buffers.most = 1 << 20;
  EXPECT_EQ(pool.allocate(Pool::kSlabBytes), nullptr);
  EXPECT_EQ(pool.host_of(small, 1), buffers.all[0].data());
}

TEST(MetalPool, ForeignAddressesAbort) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  CountedBuffers buffers;
  Pool pool(buffers);
  std::byte* const large = pool.allocate(Pool::kSlabBytes);
  EXPECT_DEATH(pool.host_of(buffers.all[0].data(), 1), "is not device memory");
  EXPECT_DEATH(pool.host_of(large + 16, Pool::kSlabBytes), "bytes at 16 of a buffer");
  EXPECT_DEATH(
      {
        pool.release(large);
        pool.release(large);
      },
      "release of");
}

TEST(MetalWindow, HoldsThePagesOfABlock) {
  alignas(16384) static std::byte pages[2 * 16384];
  const std::byte* const at = pages + 32;
  const Window inner = window_of(at, 100, 16384);
  EXPECT_EQ(inner.begin, pages);
  EXPECT_EQ(inner.n_bytes, 16384);
  EXPECT_EQ(inner.offset, 32);
  // One byte more than the page has left.
  EXPECT_EQ(window_of(at, 16384 - 31, 16384).n_bytes, 2 * 16384);
  EXPECT_EQ(window_of(at, 16384 - 32, 16384).n_bytes, 16384);
}

}  // namespace
}  // namespace narwhal::metal
