#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/dot.h"
#include "ops/row_codec.h"

namespace narwhal {
namespace {

constexpr int kKeyBlock = 32;   // keys decoded together; also the step of the running softmax
constexpr int kHeadGroup = 16;  // heads that share one decoding

// The keys of one query in order: window by ascending position, then compressed rows.
struct Keys {
  const BatchRows& b;
  const AttentionParams& p;
  int r;
  int64_t window_begin, n_window, n_compressed;

  Keys(const BatchRows& batch, const AttentionParams& params, int row)
      : b(batch), p(params), r(row) {
    const int64_t position = b.position[r];
    window_begin = std::max<int64_t>(0, position - p.window + 1);
    n_window = position - window_begin + 1;
    n_compressed = p.ratio == 0 ? 0
                   : p.selected ? p.n_selected[r]
                                : visible_rows(position, p.ratio);
  }
  int64_t size() const { return n_window + n_compressed; }

  void decode(int64_t i, float* key) const {
    if (i < n_window) {
      const int64_t position = window_begin + i, first = b.first_position(r);
      const std::byte* row =
          position >= first ? p.batch_rows + (b.first_row[r] + position - first) * p.row.bytes()
                            : p.ring.at(b.slot[r], position);
      return decode_kv_row(p.row, row, key);
    }
    const int64_t c = i - n_window;
    const int64_t id = p.selected ? p.selected[int64_t{r} * p.top_k + c] : c;
    decode_kv_row(p.compressed.format, p.compressed.at(b.slot[r], id), key);
  }
};

// Running softmax of one head: o = sum weight * key, relative to the largest score so far. The sink
// starts the denominator and carries no value.
struct Head {
  float top, sum;

  void add_block(const float* q, const float* keys, int n, int dim, float scale, float* o) {
    float z[kKeyBlock], block_top = top;
    for (int j = 0; j < n; j++) {
      z[j] = dot(q, keys + j * dim, dim) * scale;
      block_top = std::max(block_top, z[j]);
    }
    if (block_top > top) {
      const float shrink = std::exp(top - block_top);
      sum *= shrink;
      for (int i = 0; i < dim; i++) o[i] *= shrink;
      top = block_top;
    }
    for (int j = 0; j < n; j++) {
      const float weight = std::exp(z[j] - top);
      sum += weight;
      const float* key = keys + j * dim;
      for (int i = 0; i < dim; i++) o[i] += weight * key[i];
    }
  }
};

// Larger is better; among equal scores the lower id; NaN last.
uint64_t sortable(float score, int64_t id) {
  if (std::isnan(score)) score = -std::numeric_limits<float>::infinity();
  if (score == 0) score = 0;  // -0 ties with +0
  const uint32_t bits = std::bit_cast<uint32_t>(score);
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return uint64_t{ordered} << 32 | (0xFFFFFFFFu - static_cast<uint32_t>(id));
}

}  // namespace

void CpuOps::attention(const BatchRows& b, const AttentionParams& p, const float* q, float* out) {
  const int dim = p.head_dim;
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  const int64_t groups = (p.n_heads + kHeadGroup - 1) / kHeadGroup;
  each_row(b.n_rows * groups, int64_t{kHeadGroup} * p.window * dim,
           [&](int64_t begin, int64_t end, int thread) {
             float* block = scratch(thread).keys.data();
             for (int64_t item = begin; item < end; item++) {
               const int r = static_cast<int>(item / groups),
                         h0 = static_cast<int>(item % groups) * kHeadGroup;
               const int n_heads = std::min(kHeadGroup, p.n_heads - h0);
               const Keys keys(b, p, r);
               const int64_t at = (int64_t{r} * p.n_heads + h0) * dim;
               Head heads[kHeadGroup];
               for (int h = 0; h < n_heads; h++) heads[h] = {p.sinks[h0 + h], 1.0f};
               std::fill_n(out + at, int64_t{n_heads} * dim, 0.0f);
               for (int64_t i = 0; i < keys.size(); i += kKeyBlock) {
                 const int n = static_cast<int>(std::min<int64_t>(kKeyBlock, keys.size() - i));
                 for (int j = 0; j < n; j++) keys.decode(i + j, block + j * dim);
                 for (int h = 0; h < n_heads; h++)
                   heads[h].add_block(q + at + h * dim, block, n, dim, scale, out + at + h * dim);
               }
               for (int h = 0; h < n_heads; h++)
                 for (int i = 0; i < dim; i++) out[at + h * dim + i] /= heads[h].sum;
             }
           });
}

void CpuOps::index_scores(const BatchRows& b, const IndexParams& p, const float* q, const float* w,
                          float* scores) {
  constexpr int64_t kRows = 256;
  const int d = p.rows.format.dim;
  const int64_t blocks = (int64_t{p.max_rows} + kRows - 1) / kRows;
  each_row(b.n_rows * blocks, kRows * d * p.n_heads, [&](int64_t begin, int64_t end, int thread) {
    float* key = scratch(thread).row.data();
    for (int64_t item = begin; item < end; item++) {
      const int r = static_cast<int>(item / blocks);
      const int64_t c0 = item % blocks * kRows,
                    stop = std::min(c0 + kRows, visible_rows(b.position[r], 4));
      const float* heads = q + int64_t{r} * p.n_heads * d;
      for (int64_t c = c0; c < stop; c++) {
        decode_kv_row(p.rows.format, p.rows.at(b.slot[r], c), key);
        float score = 0;
        for (int h = 0; h < p.n_heads; h++)
          score += w[int64_t{r} * p.n_heads + h] * std::max(0.0f, dot(heads + h * d, key, d));
        scores[int64_t{r} * p.max_rows + c] = score;
      }
    }
  });
}

void CpuOps::top_k(const BatchRows& b, const IndexParams& p, const float* scores, int32_t* selected,
                   int32_t* n_selected) {
  each_row(b.n_rows, int64_t{8} * p.max_rows, [&](int64_t begin, int64_t end, int thread) {
    uint64_t* keys = scratch(thread).sort.data();
    for (int64_t r = begin; r < end; r++) {
      const int64_t visible = visible_rows(b.position[r], 4);
      const float* score = scores + r * p.max_rows;
      int32_t* ids = selected + r * p.top_k;
      uint64_t worst = 0;
      if (visible > p.top_k) {
        for (int64_t c = 0; c < visible; c++) keys[c] = sortable(score[c], c);
        std::nth_element(keys, keys + p.top_k - 1, keys + visible, std::greater<>());
        worst = keys[p.top_k - 1];
      }
      int32_t n = 0;
      for (int64_t c = 0; c < visible; c++)
        if (visible <= p.top_k || sortable(score[c], c) >= worst)
          ids[n++] = static_cast<int32_t>(c);
      n_selected[r] = n;
    }
  });
}

}  // namespace narwhal
