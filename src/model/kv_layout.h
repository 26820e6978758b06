// KvLayout: where the state of a sequence lies in memory (model section 15).
//
// A sequence has two parts:
//
//   pages      the compressed rows, append-only; one page holds every layer's rows of kPageTokens
//              tokens, so one table per sequence addresses all of them and pages can be shared
//   frontier   rings over the newest positions: window rows of every layer, and each compressor's k
//   and
//              s of the tokens that a later row may still need
//
//     page:      layer 2: attention rows | index rows | layer 3: attention rows | ...
//     frontier:  layer 0: window ring | layer 1: window ring | layer 2: window, k, s, index k,
//     index s | ...
//
// Rings hold kSpareEntries more than a query looks back, so that up to that many tokens written in
// vain (rejected drafts) can be forgotten by moving the position back.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "narwhal/engine.h"
#include "ops/types.h"

namespace narwhal {

inline constexpr int kPageTokens = 512;  // a multiple of 128
inline constexpr int kSpareEntries = 16;

// Offsets in bytes within a page or a frontier.
struct LayerKvLayout {
  LayerKind kind = LayerKind::kSliding;
  int64_t page_rows = 0, page_index_rows = 0;
  int64_t window = 0, k = 0, s = 0, index_k = 0, index_s = 0;
};

struct KvLayout {
  RowFormat row, index_row;
  int window_capacity = 0;
  int64_t page_bytes = 0, frontier_bytes = 0;
  std::vector<LayerKvLayout> layers;

  static int64_t n_pages(int64_t n_tokens) { return (n_tokens + kPageTokens - 1) / kPageTokens; }
};

KvLayout make_kv_layout(const Config& config, KvPrecision precision);

// Tokens of k and s a compressor of this kind must remember, and entries of its rings.
inline int compressor_reach(LayerKind kind) { return kind == LayerKind::kCsa ? 8 : 128; }
inline int compressor_capacity(LayerKind kind) { return compressor_reach(kind) + kSpareEntries; }

// Device memory that holds sequences in this layout.
struct KvMemory {
  std::byte* pages = nullptr;           // [n_pages][page_bytes]
  std::byte* frontiers = nullptr;       // [n_slots][frontier_bytes]
  const int32_t* page_table = nullptr;  // [n_slots][max_pages]
  int max_pages = 0;
};

// The views that ops take, for one layer.
struct LayerKv {
  Ring window;
  Ring k, s, index_k, index_s;
  PagedRows rows, index_rows;
};

LayerKv layer_kv(const Config& config, const KvLayout& layout, const KvMemory& memory, int layer);

}  // namespace narwhal
