#include "session/state_image.h"

#include <algorithm>

#include "base/check.h"

namespace narwhal {
namespace {

// A run of ring entries of one ring: positions [begin, end), the first n_bytes of each entry.
struct Piece {
  Ring ring;
  int64_t begin = 0, end = 0;
  int64_t n_bytes = 0;
};

void add_compressor(std::vector<Piece>& pieces, const Ring& k, const Ring& s, LayerKind kind,
                    int64_t position) {
  const int64_t ratio = static_cast<int>(kind),
                open = position / ratio * ratio;  // start of the open window
  for (const Ring& ring : {k, s}) {
    if (kind == LayerKind::kCsa)
      pieces.push_back({ring, std::max<int64_t>(0, open - ratio), open, ring.row_bytes / 2});
    pieces.push_back({ring, open, position, ring.row_bytes});
  }
}

std::vector<Piece> pieces_of(const Config& c, const KvLayout& layout, const KvMemory& memory,
                             int64_t position) {
  std::vector<Piece> pieces;
  for (int layer = 0; layer < c.n_layers; layer++) {
    const LayerKv kv = layer_kv(c, layout, memory, layer);
    const LayerKind kind = c.layers[layer];
    pieces.push_back(
        {kv.window, std::max<int64_t>(0, position - c.window), position, kv.window.row_bytes});
    if (kind != LayerKind::kSliding) add_compressor(pieces, kv.k, kv.s, kind, position);
    if (kind == LayerKind::kCsa) add_compressor(pieces, kv.index_k, kv.index_s, kind, position);
  }
  return pieces;
}

// Calls f(ring memory, offset in the image, bytes) for runs as long as the ring's layout allows.
template <class F>
int64_t each_run(const std::vector<Piece>& pieces, int slot, F&& f) {
  int64_t at = 0;
  for (const Piece& p : pieces) {
    const bool whole = p.n_bytes == p.ring.row_bytes;
    for (int64_t position = p.begin; position < p.end;) {
      const int64_t to_wrap = p.ring.capacity - position % p.ring.capacity;
      const int64_t n = whole ? std::min(p.end - position, to_wrap) : 1;
      f(p.ring.at(slot, position), at, n * p.n_bytes);
      at += n * p.n_bytes;
      position += n;
    }
  }
  return at;
}

// The same for the rows that tokens [begin, end) closed.
template <class F>
int64_t each_rows_run(const Config& c, const KvLayout& layout, const KvMemory& memory, int slot,
                      int64_t begin, int64_t end, F&& f) {
  NW_CHECK(begin % 128 == 0 && end % 128 == 0, "rows of tokens [{}, {})", begin, end);
  int64_t at = 0;
  const auto each = [&](const PagedRows& rows, int64_t ratio) {
    for (int64_t row = begin / ratio; row < end / ratio;) {
      const int64_t n = std::min(end / ratio - row, rows.rows_per_page - row % rows.rows_per_page);
      f(rows.at(slot, row), at, n * rows.format.bytes());
      at += n * rows.format.bytes();
      row += n;
    }
  };
  for (int layer = 0; layer < c.n_layers; layer++) {
    if (c.layers[layer] == LayerKind::kSliding) continue;
    const LayerKv kv = layer_kv(c, layout, memory, layer);
    each(kv.rows, static_cast<int>(c.layers[layer]));
    if (c.layers[layer] == LayerKind::kCsa) each(kv.index_rows, 4);
  }
  return at;
}

}  // namespace

int64_t frontier_image_bytes(const Config& c, const KvLayout& layout, int64_t position) {
  int64_t total = 0;
  for (const Piece& p : pieces_of(c, layout, {}, position)) total += (p.end - p.begin) * p.n_bytes;
  return total;
}

void save_frontier(const Config& c, const KvLayout& layout, const KvMemory& memory,
                   Backend& backend, int slot, int64_t position, std::span<std::byte> image) {
  const int64_t n = each_run(pieces_of(c, layout, memory, position), slot,
                             [&](const std::byte* ring, int64_t at, int64_t n_bytes) {
                               backend.copy_out(image.data() + at, ring, n_bytes);
                             });
  NW_CHECK(n == static_cast<int64_t>(image.size()), "frontier of {} bytes, image of {}", n,
           image.size());
}

void load_frontier(const Config& c, const KvLayout& layout, const KvMemory& memory,
                   Backend& backend, int slot, int64_t position, std::span<const std::byte> image) {
  const int64_t n = each_run(pieces_of(c, layout, memory, position), slot,
                             [&](std::byte* ring, int64_t at, int64_t n_bytes) {
                               backend.copy_in(ring, image.data() + at, n_bytes);
                             });
  NW_CHECK(n == static_cast<int64_t>(image.size()), "frontier of {} bytes, image of {}", n,
           image.size());
}

int64_t rows_image_bytes(const KvLayout& layout, int64_t begin, int64_t end) {
  int64_t per_128 = 0;
  for (const LayerKvLayout& l : layout.layers) {
    if (l.kind == LayerKind::kSliding) continue;
    per_128 += 128 / static_cast<int>(l.kind) * int64_t{layout.row.bytes()};
    if (l.kind == LayerKind::kCsa) per_128 += 128 / 4 * int64_t{layout.index_row.bytes()};
  }
  return (end - begin) / 128 * per_128;
}

void save_rows(const Config& c, const KvLayout& layout, const KvMemory& memory, Backend& backend,
               int slot, int64_t begin, int64_t end, std::span<std::byte> image) {
  NW_CHECK(rows_image_bytes(layout, begin, end) == static_cast<int64_t>(image.size()),
           "image of {}", image.size());
  each_rows_run(c, layout, memory, slot, begin, end,
                [&](const std::byte* rows, int64_t at, int64_t n_bytes) {
                  backend.copy_out(image.data() + at, rows, n_bytes);
                });
}

void load_rows(const Config& c, const KvLayout& layout, const KvMemory& memory, Backend& backend,
               int slot, int64_t begin, int64_t end, std::span<const std::byte> image) {
  NW_CHECK(rows_image_bytes(layout, begin, end) == static_cast<int64_t>(image.size()),
           "image of {}", image.size());
  each_rows_run(c, layout, memory, slot, begin, end,
                [&](std::byte* rows, int64_t at, int64_t n_bytes) {
                  backend.copy_in(rows, image.data() + at, n_bytes);
                });
}

}  // namespace narwhal
