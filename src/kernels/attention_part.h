// Attention of few rows on matrix units. The keys of a query are cut into parts as in attention.h;
// a group takes kHeads heads of one part, a second kernel merges the parts.
//
// Stored rows are exact as halves (attention_tile.h); queries and the weights of the softmax are
// sums of two halves, 22 bits, so that the result is that of f32 arithmetic but for its rounding.
#pragma once

#include "kernels/attention.h"
#include "kernels/tile.h"

namespace narwhal {
namespace kernels {

k_fn void split_half(float x, k_private uint16_t* high, k_private uint16_t* low) {
  *high = to_half(x);
  *low = to_half(x - k_f16_to_f32(*high));
}

// What eight values of a row are made of: codes and their scale, or BF16. dim, nope: multiples of
// 64. Loads only, without a branch, so that many are on the way at once.
struct RawEight {
  uint32_t words[4], scale;
};
k_fn void load_eight(k_private const Format& f, k_device const uint8_t* row, int d,
                     k_private RawEight& raw) {
  const bool coded = d < f.nope;
  k_device const uint8_t* at = coded ? row + d : row + f.nope + f.nope / 64 + 2 * (d - f.nope);
  k_load8(at, &raw.words[0], &raw.words[1]);
  k_load8(coded ? at : at + 8, &raw.words[2], &raw.words[3]);
  raw.scale = row[f.nope + (coded ? d / 64 : 0)];
}
k_fn void halves_of_eight(k_private const Format& f, k_private const RawEight& raw, int d,
                          k_private uint32_t (&out)[4]) {
  fp8_halves(raw.words[0], raw.words[1], raw.scale, out);
  if (d < f.nope) return;
  k_unroll for (int i = 0; i < 4; i++) out[i] =
      uint32_t(to_half(k_float(raw.words[i] << 16))) |
      uint32_t(to_half(k_float(raw.words[i] & 0xffff0000u))) << 16;
}

// Values of all parts [n][n_heads][kMaxParts][head_dim], and behind them their tops and sums.
k_fn k_device float* part_value(k_private const AttentionView& p, int64_t head, int part) {
  return p.parts + (head * kMaxParts + part) * p.head_dim;
}
k_fn k_device float* part_top(k_private const AttentionView& p, int64_t head, int part) {
  return p.parts + int64_t(p.b.n) * p.n_heads * kMaxParts * p.head_dim +
         (head * kMaxParts + part) * kPartExtra;
}

// kBlocks * 128 dims at most.
template <int kBlocks>
struct AttentionPart {
  k_value int kThreads = 256, kSimds = 8;
  k_value int kHeads = 16, kTile = 16;         // heads of a group; keys of a softmax step
  k_value int kKeys = kLargeShared ? 32 : 16;  // keys in shared memory
  k_value int kDims = 128 * kBlocks, kStride = kDims + 8;  // halves; rows start in different banks
  k_value int kEach = kDims / kSimds;  // dims of a simd: of the scores' sums, of the values
  k_value int kWeightStride = kTile + 8;
  k_value int kSimdKeys = kKeys / kSimds;                 // of a step
  k_value int kEights = (kDims / 8 + kSimd - 1) / kSimd;  // of a key and lane
  struct Shared {
    uint16_t rows[kKeys * kStride];                // queries at first, then keys
    uint16_t weights[2 * kHeads * kWeightStride];  // of the step's keys: high and low halves
    float part[kSimds * kHeads * kTile];
    float top[kHeads], sum[kHeads], factor[kHeads];
  };
  AttentionView p;

  // A simd's columns of the queries, as fragments of high and low halves.
  k_call void load_queries(k_private const Group& g, k_shared Shared* sh, int r, int head0,
                           k_private FragA (&high)[kEach / 16],
                           k_private FragA (&low)[kEach / 16]) k_const {
    const int kRounds = kHeads * kDims / 4 / kThreads;
    const int kLow = kKeys == 2 * kHeads ? kHeads : 0;  // first row of the low halves
    Word4 v[kRounds];
    k_unroll for (int i = 0; i < kRounds; i++) {
      const int at = 4 * (i * kThreads + int(g.index)), head = head0 + at / kDims, d = at % kDims;
      const bool there = head < p.n_heads && d < p.head_dim;
      const Word4 four =
          k_load4(p.q + (there ? (int64_t(r) * p.n_heads + head) * p.head_dim + d : 0));
      k_unroll for (int j = 0; j < 4; j++) v[i].v[j] = there ? four.v[j] : 0u;
    }
    for (int pass = 0; pass < (kLow > 0 ? 1 : 2); pass++) {
      g.barrier();
      k_unroll for (int i = 0; i < kRounds; i++) {
        const int at = 4 * (i * kThreads + int(g.index)), h = at / kDims, d = at % kDims;
        k_unroll for (int j = 0; j < 4; j++) {
          uint16_t a, b;
          split_half(k_float(v[i].v[j]), &a, &b);
          if (kLow > 0 || pass == 0) sh->rows[h * kStride + d + j] = a;
          if (kLow > 0 || pass == 1) sh->rows[(kLow + h) * kStride + d + j] = b;
        }
      }
      g.barrier();
      k_unroll for (int i = 0; i < kEach / 16; i++) {
        k_shared const uint16_t* at = sh->rows + int(g.simd) * kEach + 16 * i;
        if (kLow > 0 || pass == 0) g.load_a(high[i], at, kStride);
        if (kLow > 0 || pass == 1) g.load_a(low[i], at + kLow * kStride, kStride);
      }
    }
  }

  // Asks for the simd's keys of a step: their places are several loads away, one behind the other.
  k_call void ask_keys(k_private const Group& g, int r, int first, int end, int n_window,
                       k_private RawEight (&raw)[kSimdKeys][kEights]) k_const {
    k_device const uint8_t* rows[kSimdKeys];
    k_unroll for (int i = 0; i < kSimdKeys; i++) {
      const int key = min_int(first + int(g.simd) + i * kSimds, end - 1);
      bool compressed;  // of the same format
      rows[i] = key_row(p, r, key, n_window, &compressed);
    }
    k_unroll for (int i = 0; i < kSimdKeys; i++) k_unroll for (int j = 0; j < kEights; j++) {
      const int d = 8 * (j * kSimd + int(g.lane));
      load_eight(p.row, rows[i], d < p.head_dim ? d : 0, raw[i][j]);
    }
  }
  k_call void put_keys(k_private const Group& g, k_shared Shared* sh, int first, int end,
                       k_private const RawEight (&raw)[kSimdKeys][kEights]) k_const {
    g.barrier();
    k_unroll for (int i = 0; i < kSimdKeys; i++) {
      const int t = int(g.simd) + i * kSimds;
      const bool there = first + t < end;
      k_unroll for (int j = 0; j < kEights; j++) {
        const int d = 8 * (j * kSimd + int(g.lane));
        if (d >= kDims) continue;
        Word4 out = {{0, 0, 0, 0}};
        if (there && d < p.head_dim) halves_of_eight(p.row, raw[i][j], d, out.v);
        k_store4(sh->rows + t * kStride + d, out);
      }
    }
    g.barrier();
  }

  // Scores of kTile keys from key0 on: every simd sums over its dims.
  k_call void scores(k_private const Group& g, k_shared Shared* sh, int key0,
                     k_private const FragA (&high)[kEach / 16],
                     k_private const FragA (&low)[kEach / 16]) k_const {
    k_unroll for (int n = 0; n < kTile / 8; n++) {
      FragC sums;
      g.clear(sums);
      k_unroll for (int i = 0; i < kEach / 16; i++) {
        FragB keys;
        g.load_b(keys, sh->rows + (key0 + 8 * n) * kStride + int(g.simd) * kEach + 16 * i, kStride);
        g.mma(sums, low[i], keys);
        g.mma(sums, high[i], keys);
      }
      g.store_c(sums, sh->part + int(g.simd) * kHeads * kTile + 8 * n, kTile);
    }
    g.barrier();
  }

  // One thread per head and key; the 16 lanes of a head are neighbours.
  k_call void weigh(k_private const Group& g, k_shared Shared* sh, int n_valid) k_const {
    const int h = int(g.index) / kTile, t = int(g.index) % kTile;
    float z = 0;
    for (int simd = 0; simd < kSimds; simd++) z += sh->part[(simd * kHeads + h) * kTile + t];
    z = t < n_valid ? z * p.scale : -k_float(0x7f800000u);
    const float weight = softmax_step(g, sh, h, t, z);
    uint16_t high, low;
    split_half(weight, &high, &low);
    sh->weights[h * kWeightStride + t] = high;
    sh->weights[(kHeads + h) * kWeightStride + t] = low;
    g.barrier();
  }

  k_call void add_values(k_private const Group& g, k_shared Shared* sh, int key0,
                         k_private FragC (&values)[kEach / 8]) k_const {
    FragA high, low;
    g.load_a(high, sh->weights, kWeightStride);
    g.load_a(low, sh->weights + kHeads * kWeightStride, kWeightStride);
    k_unroll for (int i = 0; i < kEach / 8; i++) {
      FragB keys;
      g.load_b_across(keys, sh->rows + key0 * kStride + int(g.simd) * kEach + 8 * i, kStride);
      g.scale_rows(values[i], sh->factor);
      g.mma(values[i], low, keys);
      g.mma(values[i], high, keys);
    }
  }

  k_call void store(k_private const Group& g, k_shared Shared* sh, int r, int head0, int part,
                    k_private const FragC (&values)[kEach / 8]) k_const {
    g.barrier();
    k_shared float* staged = sh->part + int(g.simd) * kHeads * kTile;
    k_unroll for (int i = 0; i < kEach / 8; i++) {
      g.simd_barrier();
      g.store_c(values[i], staged, 8);
      g.simd_barrier();
      for (int j = int(g.lane); j < kHeads * 8; j += kSimd) {
        const int head = head0 + j / 8, d = int(g.simd) * kEach + 8 * i + j % 8;
        if (head < p.n_heads && d < p.head_dim)
          part_value(p, int64_t(r) * p.n_heads + head, part)[d] = staged[j];
      }
    }
    const int head = head0 + int(g.index);
    if (int(g.index) < kHeads && head < p.n_heads) {
      k_device float* to = part_top(p, int64_t(r) * p.n_heads + head, part);
      to[0] = sh->top[g.index];
      to[1] = sh->sum[g.index];
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int head_groups = (p.n_heads + kHeads - 1) / kHeads;
    const int part = int(g.group) % kMaxParts, at = int(g.group) / kMaxParts;
    const int r = at / head_groups, head0 = at % head_groups * kHeads;
    const int n_keys = all_keys(p, r), n_window = window_keys(p, r), length = part_length(n_keys);
    const int begin = part * length, end = min_int(begin + length, n_keys);
    if (begin >= n_keys) return;
    RawEight keys[kSimdKeys][kEights];
    ask_keys(g, r, begin, end, n_window, keys);
    FragA high[kEach / 16], low[kEach / 16];
    load_queries(g, sh, r, head0, high, low);
    if (int(g.index) < kHeads) {
      sh->top[g.index] = -k_float(0x7f800000u);
      sh->sum[g.index] = 0;
    }
    FragC values[kEach / 8];
    k_unroll for (int i = 0; i < kEach / 8; i++) g.clear(values[i]);
    for (int first = begin; first < end; first += kKeys) {
      put_keys(g, sh, first, end, keys);
      if (first + kKeys < end) ask_keys(g, r, first + kKeys, end, n_window, keys);
      for (int key = 0; key < kKeys && first + key < end; key += kTile) {
        scores(g, sh, key, high, low);
        weigh(g, sh, min_int(kTile, end - first - key));
        add_values(g, sh, key, values);
      }
    }
    store(g, sh, r, head0, part, values);
  }
};

// Merges the parts of one head and the sink, and undoes the rotation of the result; one group per
// row and head, two dims per thread at a time. Further groups, one per row, bring the step's rows
// into the ring: nobody reads its oldest rows any more.
struct AttentionMerge {
  k_value int kThreads = 256, kBatch = 8;  // parts asked for at once
  struct Shared {
    float weight[kMaxParts];
  };
  AttentionView p;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int n_heads_in_all = p.b.n * p.n_heads;
    if (int(g.group) >= n_heads_in_all) {
      return store_in_ring(g, p.b, p.ring, p.batch_rows, int(g.group) - n_heads_in_all);
    }
    const int r = int(g.group) / p.n_heads, head = int(g.group) % p.n_heads;
    const int n_keys = all_keys(p, r), length = part_length(n_keys);
    const int n_parts = (n_keys + length - 1) / length;
    if (g.simd == 0) {  // a lane is a part
      const bool there = int(g.lane) < n_parts;
      k_device const float* of = part_top(p, g.group, there ? int(g.lane) : 0);
      const float mine = of[0];
      float top = max_float(mine, p.sinks[head]), sum = 0;
      for (unsigned m = 16; m > 0; m /= 2) top = max_float(top, g.simd_shuffle(top, g.lane ^ m));
      const float weight = there ? k_exp(mine - top) : 0.0f;
      sum = g.simd_sum(there ? weight * of[1] : 0.0f) + k_exp(p.sinks[head] - top);
      sh->weight[g.lane] = weight / sum;
    }
    g.barrier();
    for (int d = 2 * int(g.index); d < p.head_dim; d += 2 * kThreads) {
      k_device const float* value = part_value(p, g.group, 0) + d;
      float a = 0, b = 0;
      for (int first = 0; first < n_parts; first += kBatch) {
        float even[kBatch], odd[kBatch];
        k_unroll for (int i = 0; i < kBatch; i++) {
          k_device const float* of = value + min_int(first + i, n_parts - 1) * p.head_dim;
          even[i] = of[0];
          odd[i] = of[1];
        }
        k_unroll for (int i = 0; i < kBatch; i++) {
          if (first + i >= n_parts) continue;
          a = k_mad(sh->weight[first + i], even[i], a);
          b = k_mad(sh->weight[first + i], odd[i], b);
        }
      }
      store_turned_back(p, r, head, d, a, b);
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
