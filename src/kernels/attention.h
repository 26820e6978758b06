// Attention over window and compressed rows (model section 9): one KV row is key and value of every
// head.
//
// The keys of a query, in order, are cut into parts whose length follows from their number alone.
// Each part is a softmax of its own; parts are joined from the first to the last, starting from the
// sink. Few rows: every part is a group and a second kernel joins them. Many rows: one group does
// all parts of its heads. Both do the same arithmetic in the same order.
#pragma once

#include "kernels/kv_rows.h"

namespace narwhal {
namespace kernels {

k_value int kPartKeys = 32, kMaxParts = 32, kPartExtra = 2;

// Keys per part: a multiple of kPartKeys such that at most kMaxParts parts arise.
k_fn int part_length(int n_keys) {
  const int pieces = (n_keys + kPartKeys - 1) / kPartKeys;
  return kPartKeys * ((pieces + kMaxParts - 1) / kMaxParts);
}

struct AttentionView {
  Rows b;
  int n_heads, head_dim, window, ratio, top_k;
  float scale;
  Format row;
  k_device const uint8_t* batch_rows;  // this step's own rows
  RingView ring;                       // older rows
  PagedView compressed;
  k_device const int32_t* selected;  // [n][top_k], or null: all visible rows
  k_device const int32_t* n_selected;
  k_device const float* sinks;
  k_device const float* q;  // [n][n_heads][head_dim]
  k_device float* parts;    // [n][n_heads][kMaxParts][head_dim + kPartExtra]: value, top, sum
  k_device float* out;
  int rope;  // dims at the tail of a head whose rotation AttentionJoin undoes; 0: none
  k_device const float* table;  // [n][rope / 2][2]
};

k_fn int window_keys(k_private const AttentionView& p, int r) {
  return min_int(p.b.position[r] + 1, p.window);
}

k_fn int all_keys(k_private const AttentionView& p, int r) {
  const int n = window_keys(p, r);
  if (p.ratio == 0) return n;
  return n + (p.selected ? p.n_selected[r] : (p.b.position[r] + 1) / p.ratio);
}

// Key i of query r: the window by ascending position, then compressed rows.
k_fn k_device const uint8_t* key_row(k_private const AttentionView& p, int r, int i, int n_window,
                                     k_private bool* compressed) {
  *compressed = i >= n_window;
  if (i < n_window) {
    const int position = p.b.position[r] - n_window + 1 + i, first = first_position(p.b, r);
    if (position >= first)
      return p.batch_rows + int64_t(p.b.first_row[r] + position - first) * p.row.n_bytes;
    return ring_at(p.ring, p.b.slot[r], position);
  }
  const int c = i - n_window;
  return paged_at(p.compressed, p.b.slot[r], p.selected ? p.selected[int64_t(r) * p.top_k + c] : c);
}

// A running softmax average of one head: value is spread over the lanes.
template <int kDims>
struct Average {
  float top, sum, value[kDims];
};

template <int kDims>
k_fn void join(k_private Average<kDims>& a, k_private const Average<kDims>& b) {
  const float top = max_float(a.top, b.top), wa = k_exp(a.top - top), wb = k_exp(b.top - top);
  a.sum = k_mad(b.sum, wb, a.sum * wa);
  for (int i = 0; i < kDims; i++) a.value[i] = k_mad(b.value[i], wb, a.value[i] * wa);
  a.top = top;
}

// kBlocks * 128 dims at most; a lane holds dims 128 j + 4 lane .. + 3.
template <int kBlocks, bool kSplit>
struct Attention {
  k_value int kThreads = 256;
  k_value int kHeads = 2;                // of a simd
  k_value int kGroupHeads = 8 * kHeads;  // of a group
  k_value int kTile = 8;                 // keys in shared memory: one decoded by each simd
  k_value int kPadded = 128 * kBlocks;
  k_value int kDims = 4 * kBlocks;  // of a lane
  struct Shared {
    float keys[kTile * kPadded];
  };
  typedef Average<kDims> State;
  AttentionView p;

  k_call void decode_tile(k_private const Group& g, k_shared Shared* sh, int r, int first, int end,
                          int n_window) k_const {
    const int i = first + int(g.simd);
    k_shared float* key = sh->keys + g.simd * kPadded;
    if (i >= end) {
      for (int d = int(g.lane); d < kPadded; d += kSimd) key[d] = 0;
      return;
    }
    bool compressed;
    k_device const uint8_t* row = key_row(p, r, i, n_window, &compressed);
    const Format f = compressed ? p.compressed.format : p.row;
    k_unroll for (int d = int(g.lane); d < kPadded; d += kSimd) key[d] =
        d < p.head_dim ? row_value(f, row, d) : 0.0f;
  }

  // Adds the tile's keys to a head's average.
  k_call void add_tile(k_private const Group& g, k_shared const Shared* sh,
                       k_private const float* q, int count, k_private State& state) k_const {
    float z[kTile], top = state.top;
    k_unroll for (int t = 0; t < kTile; t++) {
      float dot = 0;
      k_unroll for (int i = 0; i < kDims; i++) dot =
          k_mad(q[i], sh->keys[t * kPadded + i / 4 * 128 + 4 * int(g.lane) + i % 4], dot);
      z[t] = dot;
    }
    k_unroll for (int t = 0; t < kTile; t++) {
      z[t] = g.simd_sum(z[t]) * p.scale;
      if (t < count) top = max_float(top, z[t]);
    }
    const float shrink = k_exp(state.top - top);
    state.sum *= shrink;
    for (int i = 0; i < kDims; i++) state.value[i] *= shrink;
    state.top = top;
    k_unroll for (int t = 0; t < kTile; t++) {
      const float weight = t < count ? k_exp(z[t] - top) : 0.0f;
      state.sum += weight;
      k_unroll for (int i = 0; i < kDims; i++) state.value[i] = k_mad(
          weight, sh->keys[t * kPadded + i / 4 * 128 + 4 * int(g.lane) + i % 4], state.value[i]);
    }
  }

  k_call void one_part(k_private const Group& g, k_shared Shared* sh, int r, int begin, int end,
                       k_private const float (&q)[kHeads][kDims],
                       k_private State (&state)[kHeads]) k_const {
    const int n_window = window_keys(p, r);
    k_unroll for (int h = 0; h < kHeads; h++) {
      state[h].top = -k_float(0x7f800000u);
      state[h].sum = 0;
      for (int i = 0; i < kDims; i++) state[h].value[i] = 0;
    }
    for (int i = begin; i < end; i += kTile) {
      g.barrier();
      decode_tile(g, sh, r, i, end, n_window);
      g.barrier();
      k_unroll for (int h = 0; h < kHeads; h++) add_tile(g, sh, q[h], end - i, state[h]);
    }
  }

  k_call int dim_of(k_private const Group& g, int i) k_const {
    return i / 4 * 128 + 4 * int(g.lane) + i % 4;
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int head_groups = (p.n_heads + kGroupHeads - 1) / kGroupHeads;
    const int parts = kSplit ? int(kMaxParts) : 1;
    const int part = int(g.group) % parts, item = int(g.group) / parts;
    const int r = item / head_groups;
    const int head0 = item % head_groups * kGroupHeads + int(g.simd) * kHeads;
    const int n_keys = all_keys(p, r), length = part_length(n_keys);
    if (kSplit && part * length >= n_keys) return;

    float q[kHeads][kDims];
    State state[kHeads], total[kHeads];
    k_unroll for (int h = 0; h < kHeads; h++) {
      const int head = min_int(head0 + h, p.n_heads - 1);
      k_device const float* from = p.q + (int64_t(r) * p.n_heads + head) * p.head_dim;
      for (int i = 0; i < kDims; i++) {
        q[h][i] = dim_of(g, i) < p.head_dim ? from[dim_of(g, i)] : 0.0f;
        total[h].value[i] = 0;
      }
      total[h].top = p.sinks[head];  // the sink only enlarges the denominator
      total[h].sum = 1;
    }
    if (kSplit) {
      one_part(g, sh, r, part * length, min_int((part + 1) * length, n_keys), q, state);
    } else {
      for (int begin = 0; begin < n_keys; begin += length) {
        one_part(g, sh, r, begin, min_int(begin + length, n_keys), q, state);
        k_unroll for (int h = 0; h < kHeads; h++) join(total[h], state[h]);
      }
    }
    k_unroll for (int h = 0; h < kHeads; h++) {
      if (head0 + h >= p.n_heads) continue;
      const int64_t head = int64_t(r) * p.n_heads + head0 + h;
      k_device float* to = kSplit ? p.parts + (head * kMaxParts + part) * (p.head_dim + kPartExtra)
                                  : p.out + head * p.head_dim;
      for (int i = 0; i < kDims; i++)
        if (dim_of(g, i) < p.head_dim)
          to[dim_of(g, i)] = kSplit ? state[h].value[i] : total[h].value[i] / total[h].sum;
      if (kSplit && g.lane == 0) {
        to[p.head_dim] = state[h].top;
        to[p.head_dim + 1] = state[h].sum;
      }
    }
  }
};

// A step of the running softmax: the weight of score z of head h, and the head's new top, sum and
// the factor of what it had before. The keys of a head lie on 16 neighbouring lanes, t on this one.
template <class S>
k_fn float softmax_step(k_private const Group& g, k_shared S* sh, int h, int t, float z) {
  float top = z;
  for (unsigned m = 8; m > 0; m /= 2) top = max_float(top, g.simd_shuffle(top, g.lane ^ m));
  const float before = sh->top[h];
  top = max_float(top, before);
  const float weight = k_exp(z - top);
  float sum = weight;
  for (unsigned m = 8; m > 0; m /= 2) sum += g.simd_shuffle(sum, g.lane ^ m);
  g.simd_barrier();  // all have read the top
  if (t == 0) {
    const float factor = k_exp(before - top);
    sh->factor[h] = factor;
    sh->sum[h] = k_mad(sh->sum[h], factor, sum);
    sh->top[h] = top;
  }
  return weight;
}

// Dims d and d + 1 of a head's result, the rotation of the tail undone.
k_fn void store_turned_back(k_private const AttentionView& p, int r, int head, int d, float a,
                            float b) {
  const int i = d - (p.head_dim - p.rope);
  if (i >= 0) {
    k_device const float* turn = p.table + int64_t(r) * p.rope + i;
    const float c = turn[0], s = -turn[1], x = a, y = b;
    a = x * c - y * s;
    b = x * s + y * c;
  }
  k_device float* to = p.out + (int64_t(r) * p.n_heads + head) * p.head_dim + d;
  to[0] = a;
  to[1] = b;
}

// Joins the parts of one head; one group per row and head, two dims per thread at a time.
struct AttentionJoin {
  k_value int kThreads = 128;
  struct Shared {
    int unused;
  };
  AttentionView p;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int r = int(g.group) / p.n_heads, head = int(g.group) % p.n_heads;
    const int n_keys = all_keys(p, r), length = part_length(n_keys);
    for (int d = 2 * int(g.index); d < p.head_dim; d += 2 * kThreads) {
      Average<2> total = {p.sinks[head], 1, {0, 0}};
      k_device const float* part =
          p.parts + int64_t(g.group) * kMaxParts * (p.head_dim + kPartExtra);
      for (int begin = 0; begin < n_keys; begin += length) {
        const Average<2> one = {part[p.head_dim], part[p.head_dim + 1], {part[d], part[d + 1]}};
        join(total, one);
        part += p.head_dim + kPartExtra;
      }
      store_turned_back(p, r, head, d, total.value[0] / total.sum, total.value[1] / total.sum);
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
