#include "kvstore/kv_forest.h"

#include <gtest/gtest.h>

namespace narwhal {
namespace {

constexpr int64_t kNow = 1000000, kHour = 3600;
constexpr uint64_t kBlock = 7000, kFrontier = 3600;

KvId id(uint64_t n) { return {n, n}; }

// Blocks of 2048 tokens; block 0's parent is no block.
BlockRow block(uint64_t n, uint64_t parent, int64_t start, int64_t age = kHour) {
  return {id(n), id(parent), 1, start * 2048, kBlock, kNow - age};
}

FrontierRow frontier(uint64_t n, uint64_t parent, int64_t n_tokens, double heat = 0,
                     int64_t unused = 0) {
  FrontierRow f{id(n), id(parent), 1, n_tokens};
  f.bytes = kFrontier;
  f.heat = heat;
  f.used = kNow - unused;
  return f;
}

KvForest forest(const std::vector<BlockRow>& blocks, const std::vector<FrontierRow>& frontiers) {
  return {blocks, frontiers, [](uint64_t) { return 100.0; }, kNow};
}

std::vector<KvId> in_order(KvForest& f) {
  std::vector<KvId> order;
  while (const auto i = f.take_cheapest()) {
    order.push_back(f.frontier(*i).id);
    f.remove(*i);
  }
  return order;
}

constexpr uint64_t kRoot = 1000;

TEST(KvForest, SharedBlocksStayUntilTheirLastUser) {
  // 1 - 2 - 3   and   1 - 2 - 4
  KvForest f = forest({block(1, kRoot, 0), block(2, 1, 1), block(3, 2, 2), block(4, 2, 2)},
                      {frontier(10, 3, 6200), frontier(11, 4, 6300)});
  EXPECT_EQ(f.chain_bytes(0), 3 * kBlock + kFrontier);
  EXPECT_EQ(f.own_bytes(0), kBlock + kFrontier);
  EXPECT_EQ(f.chain_length(0), 3);
  EXPECT_EQ(f.remove(0), (std::vector<KvId>{id(3)}));
  EXPECT_EQ(f.own_bytes(1), 3 * kBlock + kFrontier);
  EXPECT_EQ(f.remove(1), (std::vector<KvId>{id(4), id(2), id(1)}));
}

TEST(KvForest, ValueIsTheTimeSavedPerByte) {
  KvForest f = forest({block(1, kRoot, 0), block(2, 1, 1)},
                      {frontier(10, 1, 2048), frontier(11, 2, 4096), frontier(12, 2, 4146)});
  EXPECT_DOUBLE_EQ(f.value(0), 2048 / 100.0 / kFrontier);
  EXPECT_DOUBLE_EQ(f.value(1), 2048 / 100.0 / kFrontier);
  EXPECT_DOUBLE_EQ(f.value(2), 50 / 100.0 / kFrontier);  // beyond the one before it
  EXPECT_EQ(f.take_cheapest(), 2);
}

TEST(KvForest, UseRaisesValueAndFades) {
  KvForest f = forest({}, {frontier(10, kRoot, 1000), frontier(11, kRoot + 1, 1000, 3),
                           frontier(12, kRoot + 2, 1000, 3, 12 * kHour)});
  EXPECT_DOUBLE_EQ(f.value(1), 4 * f.value(0));
  EXPECT_DOUBLE_EQ(f.value(2), 1.75 * f.value(0));
  EXPECT_EQ(in_order(f), (std::vector<KvId>{id(10), id(12), id(11)}));
}

TEST(KvForest, AnchorsAreWorthMore) {
  FrontierRow anchor = frontier(10, kRoot, 1000);
  anchor.kind = FrontierKind::kAnchor;
  KvForest f = forest({}, {anchor, frontier(11, kRoot + 1, 1000)});
  EXPECT_DOUBLE_EQ(f.value(0), 2 * f.value(1));
}

TEST(KvForest, EqualValuesGoOldestUseFirst) {
  KvForest f = forest({}, {frontier(10, kRoot, 1000, 0, 5), frontier(11, kRoot + 1, 1000, 0, 7),
                           frontier(12, kRoot + 2, 1000, 0, 6)});
  EXPECT_EQ(in_order(f), (std::vector<KvId>{id(11), id(12), id(10)}));
}

// Alone, the long one is worth more a byte; the short one after it only once it is gone.
TEST(KvForest, RemovalChangesTheValueOfNeighbours) {
  KvForest f = forest({block(1, kRoot, 0)},
                      {frontier(10, 1, 2100), frontier(11, 1, 2200), frontier(12, kRoot, 300)});
  const double before = f.value(1);
  f.remove(0);
  EXPECT_GT(f.value(1), before);
}

TEST(KvForest, OrphansGoWhenTheyAreOld) {
  KvForest f = forest({block(1, kRoot, 0), block(2, 1, 1), block(3, 2, 2), block(4, kRoot, 0),
                       block(5, 4, 1, 10), block(6, kRoot, 0), block(7, 6, 1)},
                      {frontier(10, 1, 2100)});
  // 3 and 2 hang off a block in use; 5 is young and keeps 4; of 6 and 7 nothing is used.
  auto orphans = f.take_orphans(kOrphanGraceSeconds);
  std::sort(orphans.begin(), orphans.end());
  EXPECT_EQ(orphans, (std::vector<KvId>{id(2), id(3), id(6), id(7)}));
  EXPECT_EQ(f.take_orphans(0, id(5)), std::vector<KvId>{});
  EXPECT_EQ(f.take_orphans(0), (std::vector<KvId>{id(5), id(4)}));
}

TEST(KvForest, AClockThatJumpedBackMakesNothingYoung) {
  KvForest f =
      forest({block(1, kRoot, 0, -30 * kHour)}, {frontier(10, kRoot, 900, 1, -30 * kHour)});
  EXPECT_EQ(f.take_orphans(kOrphanGraceSeconds).size(), 1);
  EXPECT_DOUBLE_EQ(f.value(0), 2 * 9.0 / kFrontier);
}

TEST(KvForest, ManyEntriesAreRankedQuickly) {
  std::vector<FrontierRow> rows;
  for (uint64_t i = 0; i < 100000; i++) rows.push_back(frontier(i, kRoot + i, 1000 + i % 977));
  KvForest f = forest({}, rows);
  int64_t last = 0;
  for (int i = 0; i < 50000; i++) {
    const auto k = f.take_cheapest();
    ASSERT_TRUE(k);
    ASSERT_GE(f.frontier(*k).n_tokens, last);
    last = f.frontier(*k).n_tokens;
    f.remove(*k);
  }
}

}  // namespace
}  // namespace narwhal
