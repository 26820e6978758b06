#include "backend/gpu/staging.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <random>

namespace narwhal::gpu {
namespace {

// Transfers happen when their slot is waited for, in order, so a slot that is filled too early, or
// sent before it is full, shows in what arrives.
class LazyBus : public Staging::Bus {
 public:
  LazyBus(int n_slots, int64_t slot_bytes) : slots_(n_slots, std::vector<std::byte>(slot_bytes)) {}
  void expect(int64_t n_bytes, int64_t range_bytes) {
    got.assign(n_bytes, std::byte{0});
    range_bytes_ = range_bytes;
    next_ = 0;
  }
  std::byte* slot(int i) override { return slots_[i].data(); }
  void wait(int i) override {
    while (is_pending(i)) deliver();
  }
  void send(int i, int64_t at, int64_t n_bytes) override {
    EXPECT_EQ(at, next_);
    EXPECT_GT(n_bytes, 0);
    EXPECT_EQ(at / range_bytes_, (at + n_bytes - 1) / range_bytes_) << "crosses a range";
    EXPECT_FALSE(is_pending(i));
    next_ = at + n_bytes;
    pending_.push_back({i, at, n_bytes});
    most_pending = std::max(most_pending, pending_.size());
    slots_used.insert(slots_used.end(), i);
  }
  void finish() {
    while (!pending_.empty()) deliver();
  }
  std::vector<std::byte> got;
  std::vector<int> slots_used;
  size_t most_pending = 0;

 private:
  struct Transfer {
    int slot;
    int64_t at, n_bytes;
  };
  bool is_pending(int i) const {
    return std::any_of(pending_.begin(), pending_.end(),
                       [&](const Transfer& t) { return t.slot == i; });
  }
  void deliver() {
    const Transfer t = pending_.front();
    pending_.pop_front();
    std::memcpy(&got[t.at], slots_[t.slot].data(), t.n_bytes);
    std::memset(slots_[t.slot].data(), 0xee, t.n_bytes);  // the bus is done with it
  }
  std::vector<std::vector<std::byte>> slots_;
  std::deque<Transfer> pending_;
  int64_t range_bytes_ = 1, next_ = 0;
};

std::vector<std::byte> noise(int64_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<std::byte> v(n);
  for (std::byte& b : v) b = static_cast<std::byte>(rng());
  return v;
}

TEST(Staging, EverythingArrivesInOrderAndWithinRanges) {
  for (const int n_threads : {1, 4}) {
    constexpr int kSlots = 5;
    constexpr int64_t kSlotBytes = 1000;
    Staging staging(kSlots, kSlotBytes, n_threads);
    LazyBus bus(kSlots, kSlotBytes);
    for (const auto& [n_bytes, range_bytes] : {std::pair{1, 1},
                                               {999, 5000},
                                               {1000, 1000},
                                               {20000, 20000},
                                               {20001, 1700},
                                               {4999, 1000},
                                               {12345, 340},
                                               {3, 1},
                                               {7000, 7001}}) {
      SCOPED_TRACE(testing::Message()
                   << n_threads << " threads, " << n_bytes << " bytes, ranges of " << range_bytes);
      const auto sent = noise(n_bytes, n_bytes);
      bus.expect(n_bytes, range_bytes);
      staging.run(sent.data(), n_bytes, range_bytes, bus);
      bus.finish();
      EXPECT_EQ(bus.got, sent);
    }
    for (size_t i = 1; i < bus.slots_used.size(); i++)
      ASSERT_EQ(bus.slots_used[i], (bus.slots_used[i - 1] + 1) % kSlots) << "the ring goes on";
  }
}

TEST(Staging, RunsFollowWithoutWaitingForTheBus) {
  Staging staging(8, 4096, 3);
  LazyBus bus(8, 4096);
  const auto sent = noise(8 * 4096, 1);
  for (int round = 0; round < 50; round++) {
    bus.expect(std::ssize(sent), std::ssize(sent));
    staging.run(sent.data(), std::ssize(sent), std::ssize(sent), bus);
    EXPECT_GE(bus.most_pending, 2u) << "the bus would run dry";
    bus.finish();
    ASSERT_EQ(bus.got, sent);
  }
}

TEST(Staging, NothingIsNothing) {
  Staging staging(4, 16, 2);
  LazyBus bus(4, 16);
  staging.run(nullptr, 0, 1, bus);
  EXPECT_TRUE(bus.slots_used.empty());
}

TEST(Staging, UsesSomeThreads) {
  EXPECT_GE(Staging::threads_to_use(), 1);
  EXPECT_LE(Staging::threads_to_use(), 12);
}

}  // namespace
}  // namespace narwhal::gpu
