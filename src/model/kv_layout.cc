#include "model/kv_layout.h"

namespace narwhal {
namespace {

// Everything starts on a cache line.
int64_t take(int64_t& at, int64_t n_bytes) {
  const int64_t offset = at;
  at += (n_bytes + 63) / 64 * 64;
  return offset;
}

int64_t state_bytes(LayerKind kind, int64_t d) {
  const int64_t width = (kind == LayerKind::kCsa ? 2 : 1) * d;
  return compressor_capacity(kind) * width * static_cast<int64_t>(sizeof(float));
}

}  // namespace

KvLayout make_kv_layout(const Config& c, KvPrecision precision) {
  KvLayout layout;
  const bool exact = precision == KvPrecision::kF32;
  layout.row = {exact ? RowFormat::Kind::kF32 : RowFormat::Kind::kAttention, c.head_dim,
                c.nope_dim()};
  layout.index_row = {exact ? RowFormat::Kind::kF32 : RowFormat::Kind::kIndex, c.index_dim, 0};
  layout.window_capacity = c.window + kSpareEntries;
  for (const LayerKind kind : c.layers) {
    LayerKvLayout l;
    l.kind = kind;
    l.window = take(layout.frontier_bytes, int64_t{layout.window_capacity} * layout.row.bytes());
    if (kind != LayerKind::kSliding) {
      const int64_t rows = kPageTokens / static_cast<int>(kind);
      l.page_rows = take(layout.page_bytes, rows * layout.row.bytes());
      l.k = take(layout.frontier_bytes, state_bytes(kind, c.head_dim));
      l.s = take(layout.frontier_bytes, state_bytes(kind, c.head_dim));
    }
    if (kind == LayerKind::kCsa) {
      l.page_index_rows =
          take(layout.page_bytes, int64_t{kPageTokens} / 4 * layout.index_row.bytes());
      l.index_k = take(layout.frontier_bytes, state_bytes(kind, c.index_dim));
      l.index_s = take(layout.frontier_bytes, state_bytes(kind, c.index_dim));
    }
    layout.layers.push_back(l);
  }
  return layout;
}

LayerKv layer_kv(const Config& c, const KvLayout& layout, const KvMemory& m, int layer) {
  const LayerKvLayout& l = layout.layers[layer];
  const auto ring = [&](int64_t offset, int capacity, int64_t bytes) {
    return Ring{m.frontiers, layout.frontier_bytes, offset, capacity, static_cast<int>(bytes)};
  };
  const auto paged = [&](int64_t offset, const RowFormat& format) {
    return PagedRows{
        m.pages,     layout.page_bytes,
        offset,      m.page_table,
        m.max_pages, l.kind == LayerKind::kSliding ? 1 : kPageTokens / static_cast<int>(l.kind),
        format};
  };
  LayerKv kv;
  kv.window = ring(l.window, layout.window_capacity, layout.row.bytes());
  if (l.kind == LayerKind::kSliding) return kv;
  const int capacity = compressor_capacity(l.kind);
  const int64_t width = (l.kind == LayerKind::kCsa ? 2 : 1) * int64_t{sizeof(float)};
  kv.k = ring(l.k, capacity, width * c.head_dim);
  kv.s = ring(l.s, capacity, width * c.head_dim);
  kv.rows = paged(l.page_rows, layout.row);
  if (l.kind != LayerKind::kCsa) return kv;
  kv.index_k = ring(l.index_k, capacity, width * c.index_dim);
  kv.index_s = ring(l.index_s, capacity, width * c.index_dim);
  kv.index_rows = paged(l.page_index_rows, layout.index_row);
  return kv;
}

}  // namespace narwhal
