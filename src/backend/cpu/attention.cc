#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "backend/cpu/cpu_ops.h"

namespace narwhal {
namespace {

using cpu::kKeyBlock;  // keys decoded together; also the step of the running softmax
constexpr int kMaxHeads = 64, kMinHeads = 8;  // heads that share one decoding

// The keys of one query in order: window by ascending position, then compressed rows.
struct Keys {
  const cpu::Kernels& kernels;
  const BatchRows& b;
  const AttentionParams& p;
  int r;
  int64_t window_begin, n_window, n_compressed;

  Keys(const cpu::Kernels& k, const BatchRows& batch, const AttentionParams& params, int row)
      : kernels(k), b(batch), p(params), r(row) {
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
      return kernels.decode_kv_row(p.row, row, key);
    }
    const int64_t c = i - n_window;
    const int64_t id = p.selected ? p.selected[int64_t{r} * p.top_k + c] : c;
    kernels.decode_kv_row(p.compressed.format, p.compressed.at(b.slot[r], id), key);
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

// Running softmax per head: o = sum weight * key, relative to the largest score so far. The sink
// starts the denominator and carries no value.
void CpuOps::attention(const BatchRows& b, const AttentionParams& p, const float* q, float* out) {
  const int dim = p.head_dim;
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  // Decoding a key costs as much as a few heads; with few rows there must be work for every thread.
  int group = kMaxHeads;
  while (group > kMinHeads && int64_t{b.n_rows} * p.n_heads / group < 2 * pool_.size()) group /= 2;
  const int64_t groups = (p.n_heads + group - 1) / group;
  each_row(
      b.n_rows * groups, int64_t{group} * p.window * dim,
      [&](int64_t begin, int64_t end, int thread) {
        float* block = scratch(thread).keys.as<float>();
        float top[kMaxHeads], sum[kMaxHeads], weights[kMaxHeads * kKeyBlock];
        for (int64_t item = begin; item < end; item++) {
          const int r = static_cast<int>(item / groups),
                    h0 = static_cast<int>(item % groups) * group;
          const int n_heads = std::min(group, p.n_heads - h0);
          const Keys keys(kernels_, b, p, r);
          const int64_t at = (int64_t{r} * p.n_heads + h0) * dim;
          for (int h = 0; h < n_heads; h++) top[h] = p.sinks[h0 + h], sum[h] = 1.0f;
          std::fill_n(out + at, int64_t{n_heads} * dim, 0.0f);
          for (int64_t i = 0; i < keys.size(); i += kKeyBlock) {
            const int n = static_cast<int>(std::min<int64_t>(kKeyBlock, keys.size() - i));
            for (int j = 0; j < n; j++) keys.decode(i + j, block + j * dim);
            kernels_.attend({block, n, dim, scale}, n_heads, q + at, top, sum, out + at, weights);
          }
          for (int h = 0; h < n_heads; h++) kernels_.scale_by(out + at + h * dim, dim, 1 / sum[h]);
        }
      });
}

void CpuOps::index_scores(const BatchRows& b, const IndexParams& p, const float* q, const float* w,
                          float* scores) {
  constexpr int64_t kRows = 256;
  const int d = p.rows.format.dim;
  const int64_t blocks = (int64_t{p.max_rows} + kRows - 1) / kRows;
  each_row(b.n_rows * blocks, kRows * d * p.n_heads, [&](int64_t begin, int64_t end, int thread) {
    float* key = scratch(thread).row.as<float>();
    for (int64_t item = begin; item < end; item++) {
      const int r = static_cast<int>(item / blocks);
      const int64_t c0 = item % blocks * kRows,
                    stop = std::min(c0 + kRows, visible_rows(b.position[r], 4));
      const float* heads = q + int64_t{r} * p.n_heads * d;
      for (int64_t c = c0; c < stop; c++) {
        kernels_.decode_kv_row(p.rows.format, p.rows.at(b.slot[r], c), key);
        scores[int64_t{r} * p.max_rows + c] =
            kernels_.index_score(heads, w + int64_t{r} * p.n_heads, p.n_heads, d, key);
      }
    }
  });
}

void CpuOps::top_k(const BatchRows& b, const IndexParams& p, const float* scores, int32_t* selected,
                   int32_t* n_selected) {
  each_row(b.n_rows, int64_t{8} * p.max_rows, [&](int64_t begin, int64_t end, int thread) {
    uint64_t* keys = scratch(thread).sort.as<uint64_t>();
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

void CpuOps::index_select(const BatchRows& b, const IndexParams& p, const float* q, const float* w,
                          float* scores, int32_t* selected, int32_t* n_selected) {
  for (int r = 0; r < b.n_rows; r++)
    if (visible_rows(b.position[r], 4) > p.top_k)
      return Ops::index_select(b, p, q, w, scores, selected, n_selected);
  for (int r = 0; r < b.n_rows; r++) {
    n_selected[r] = static_cast<int32_t>(visible_rows(b.position[r], 4));
    for (int32_t c = 0; c < n_selected[r]; c++) selected[int64_t{r} * p.top_k + c] = c;
  }
}

}  // namespace narwhal
