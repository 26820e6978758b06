#include "model/kv_layout.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace narwhal {
namespace {

TEST(KvLayout, FlashRowsAreTheTrainedPrecision) {
  const KvLayout l = make_kv_layout(flash_config(), KvPrecision::kTrained);
  EXPECT_EQ(l.row.bytes(), 583);
  EXPECT_EQ(l.index_row.bytes(), 68);
}

TEST(KvLayout, AMillionTokensFitTheBudget) {
  const KvLayout l = make_kv_layout(flash_config(), KvPrecision::kTrained);
  const int64_t rows = KvLayout::n_pages(1 << 20) * l.page_bytes;
  // 21 layers of a quarter and 20 of a 128th of the tokens; pages add at most a cache line per
  // layer.
  const int64_t exact = 21 * (int64_t{1} << 18) * (583 + 68) + 20 * (int64_t{1} << 13) * 583;
  EXPECT_GE(rows, exact);
  EXPECT_LT(rows, exact * 1.005);
  EXPECT_LT(rows, 3'900'000'000);
}

// No two regions of a page or of a frontier may touch.
TEST(KvLayout, RegionsDoNotOverlap) {
  const Config c = flash_config();
  for (const KvPrecision precision : {KvPrecision::kTrained, KvPrecision::kF32}) {
    const KvLayout l = make_kv_layout(c, precision);
    std::vector<std::pair<int64_t, int64_t>> pages, frontier;
    const KvMemory m{nullptr, nullptr, nullptr, 1};
    for (int i = 0; i < c.n_layers; i++) {
      const LayerKv kv = layer_kv(c, l, m, i);
      for (const Ring* r : {&kv.window, &kv.k, &kv.s, &kv.index_k, &kv.index_s})
        if (r->capacity) frontier.emplace_back(r->offset, int64_t{r->capacity} * r->row_bytes);
      if (c.layers[i] == LayerKind::kSliding) continue;
      pages.emplace_back(kv.rows.offset, int64_t{kv.rows.rows_per_page} * kv.rows.format.bytes());
      if (c.layers[i] == LayerKind::kCsa)
        pages.emplace_back(kv.index_rows.offset,
                           int64_t{kv.index_rows.rows_per_page} * kv.index_rows.format.bytes());
    }
    const auto check = [](std::vector<std::pair<int64_t, int64_t>> regions, int64_t total) {
      std::sort(regions.begin(), regions.end());
      int64_t at = 0;
      for (const auto& [offset, size] : regions) {
        EXPECT_GE(offset, at);
        at = offset + size;
      }
      EXPECT_LE(at, total);
    };
    check(pages, l.page_bytes);
    check(frontier, l.frontier_bytes);
    EXPECT_EQ(pages.size(), 21u + 21 + 20);
    EXPECT_EQ(frontier.size(), 43u + 21 * 4 + 20 * 2);
  }
}

}  // namespace
}  // namespace narwhal
