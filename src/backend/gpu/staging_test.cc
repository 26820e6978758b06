#include "backend/gpu/staging.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <random>
#include <utility>
#include <vector>

namespace narwhal::gpu {
namespace {

// Transfers happen when their slot is waited for, in order, so a slot that is filled too early, or
// sent before it is full, shows in what arrives.
class LazyBus : public Staging::Bus {
 public:
  LazyBus(int n_slots, int64_t slot_bytes) : slots_(n_slots, std::vector<std::byte>(slot_bytes)) {}
  std::byte* slot(int i) override { return slots_[i].data(); }
  void wait(int i) override {
    while (is_pending(i)) deliver();
  }
  void send(int i, std::byte* to, int64_t n_bytes) override {
    EXPECT_GT(n_bytes, 0);
    EXPECT_FALSE(is_pending(i));
    pending_.push_back({i, to, n_bytes});
    most_pending = std::max(most_pending, pending_.size());
    slots_used.push_back(i);
    sizes.push_back(n_bytes);
  }
  void deliver_all() {
    while (!pending_.empty()) deliver();
  }
  std::vector<int> slots_used;
  std::vector<int64_t> sizes;
  size_t most_pending = 0;

 private:
  struct Transfer {
    int slot;
    std::byte* to;
    int64_t n_bytes;
  };
  bool is_pending(int i) const {
    return std::any_of(pending_.begin(), pending_.end(),
                       [&](const Transfer& t) { return t.slot == i; });
  }
  void deliver() {
    const Transfer t = pending_.front();
    pending_.pop_front();
    std::memcpy(t.to, slots_[t.slot].data(), t.n_bytes);
    std::memset(slots_[t.slot].data(), 0xee, t.n_bytes);  // the bus is done with it
  }
  std::vector<std::vector<std::byte>> slots_;
  std::deque<Transfer> pending_;
};

std::vector<std::byte> noise(int64_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<std::byte> v(n);
  for (std::byte& b : v) b = static_cast<std::byte>(rng());
  return v;
}

// One upload's bytes, where they should arrive, and what was asked of it.
struct Parcel {
  Parcel(int64_t n_bytes, int64_t range, uint32_t seed)
      : sent(noise(n_bytes, seed)), got(n_bytes), range_bytes(range) {}
  // Notes in `order` when it was done with a range.
  Upload upload(std::vector<std::pair<const Parcel*, int64_t>>& order) {
    return {sent.data(), std::ssize(sent), range_bytes,
            [this](int64_t at) {
              EXPECT_TRUE(at > last) << "in order";
              last = at;
              return &got[at];
            },
            [this, &order](int64_t end) { order.emplace_back(this, end); }};
  }
  std::vector<std::byte> sent, got;
  int64_t range_bytes, last = -1;
};
using Order = std::vector<std::pair<const Parcel*, int64_t>>;

std::deque<Parcel> parcels() {
  std::deque<Parcel> all;
  for (const auto& [n_bytes, range_bytes] : {std::pair{1, 1},
                                             {999, 5000},
                                             {1000, 1000},
                                             {20000, 20000},
                                             {20001, 1700},
                                             {4999, 1000},
                                             {12345, 340},
                                             {3, 1},
                                             {7000, 7001}})
    all.emplace_back(n_bytes, range_bytes, n_bytes);
  return all;
}

// What `order` has to be: each range of each parcel, one after another.
Order ranges_of(const std::deque<Parcel>& all) {
  Order order;
  for (const Parcel& p : all)
    for (int64_t end = 0; end < std::ssize(p.sent);) {
      end = std::min(end + p.range_bytes, std::ssize(p.sent));
      order.emplace_back(&p, end);
    }
  return order;
}

TEST(Staging, EverythingArrivesInOrderAndWithinRanges) {
  for (const int n_threads : {1, 4})
    for (const bool one_by_one : {true, false}) {
      SCOPED_TRACE(testing::Message() << n_threads << " threads, one by one: " << one_by_one);
      constexpr int kSlots = 5;
      constexpr int64_t kSlotBytes = 1000;
      LazyBus bus(kSlots, kSlotBytes);
      Staging staging(bus, kSlots, kSlotBytes, n_threads);
      auto all = parcels();
      Order order;
      for (Parcel& p : all) {
        staging.start(p.upload(order));
        if (!one_by_one) continue;
        staging.finish();
        std::fill(p.sent.begin(), p.sent.end(), std::byte{0xdd});  // may be reused
        bus.deliver_all();
        EXPECT_EQ(p.got, noise(std::ssize(p.sent), p.sent.size()));
      }
      staging.finish();
      bus.deliver_all();
      EXPECT_EQ(order, ranges_of(all));
      for (const Parcel& p : all) EXPECT_EQ(p.got, noise(std::ssize(p.sent), p.sent.size()));
      for (size_t i = 1; i < bus.slots_used.size(); i++)
        ASSERT_EQ(bus.slots_used[i], (bus.slots_used[i - 1] + 1) % kSlots) << "the ring goes on";
    }
}

TEST(Staging, ManyUploadsFollowEachOther) {
  LazyBus bus(8, 4096);
  Staging staging(bus, 8, 4096, 3);
  std::deque<Parcel> all;
  Order order;
  for (int i = 0; i < 300; i++) {
    all.emplace_back(1 + i * 7919 % 30000, 9000 + i, i);
    staging.start(all.back().upload(order));
    if (i % 100 == 50) staging.finish();
  }
  staging.finish();
  bus.deliver_all();
  EXPECT_EQ(order, ranges_of(all));
  for (const Parcel& p : all) ASSERT_EQ(p.got, p.sent);
}

TEST(Staging, UploadsFollowWithoutWaitingForTheBus) {
  LazyBus bus(8, 4096);
  Staging staging(bus, 8, 4096, 3);
  for (int round = 0; round < 50; round++) {
    Parcel p(8 * 4096, 8 * 4096, round);
    Order order;
    staging.start(p.upload(order));
    staging.finish();
    EXPECT_GE(bus.most_pending, 2u) << "the bus would run dry";
    bus.deliver_all();
    ASSERT_EQ(p.got, p.sent);
  }
}

// The large one has small pieces when it is alone, and whole slots behind another one.
TEST(Staging, PiecesAreSmallOnlyForOneAlone) {
  constexpr int64_t kMib = int64_t{1} << 20, kSlot = 2 * kMib;
  LazyBus bus(4, kSlot);
  Staging staging(bus, 4, kSlot, 2);
  Parcel alone(8 * kMib, 8 * kMib, 1), first(1, 1, 2), second(8 * kMib, 8 * kMib, 3);
  Order order;
  staging.start(alone.upload(order));
  staging.finish();
  EXPECT_EQ(bus.sizes, std::vector<int64_t>(16, kMib / 2));
  bus.sizes.clear();
  staging.start(first.upload(order));
  staging.start(second.upload(order));
  staging.finish();
  EXPECT_EQ(bus.sizes, (std::vector<int64_t>{1, kSlot, kSlot, kSlot, kSlot}));
}

TEST(Staging, WhatWasNotSentNeverIs) {
  for (int round = 0; round < 100; round++) {
    LazyBus bus(8, 512);
    size_t n_sent = 0;
    Order order;
    Parcel p(round * 100, round * 100 + 1, round);
    {
      Staging staging(bus, 8, 512, 3);
      staging.start(p.upload(order));
      n_sent = bus.sizes.size();
    }
    EXPECT_EQ(bus.sizes.size(), n_sent);
    p.sent.clear();
    p.sent.shrink_to_fit();
  }
}

TEST(Staging, NothingIsNothing) {
  LazyBus bus(4, 16);
  Staging staging(bus, 4, 16, 2);
  staging.start({nullptr, 0, 1, {}, {}});
  staging.finish();
  EXPECT_TRUE(bus.slots_used.empty());
}

TEST(Staging, UsesSomeThreads) {
  EXPECT_GE(Staging::threads_to_use(), 1);
  EXPECT_LE(Staging::threads_to_use(), 12);
}

}  // namespace
}  // namespace narwhal::gpu
