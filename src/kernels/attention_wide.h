// Attention of many rows on matrix units, where a group may have 128 KiB of shared memory: 64 heads
// of one query, so that a key is gathered and decoded once, and 32 keys at a time. Rows in trained
// precision only. The same numbers as AttentionTile but for the order of sums.
//
// While one block of keys is multiplied, the next one is decoded and the one after it is on its way
// from memory. The maximum of a softmax follows only when scores outgrow it by kSlack, which saves
// nearly all rescaling of values; weights then reach e^kSlack, well within halves.
#pragma once

#include "kernels/attention.h"
#include "kernels/tile.h"

namespace narwhal {
namespace kernels {

struct AttentionWide {
  k_value int kThreads = 256, kSimds = 8;
  k_value int kTileHeads = 64, kTileKeys = 32, kDims = 512;
  k_value int kStride = kDims + 8;  // halves; rows start in different banks
  k_value int kSimdHeads = kTileHeads / 2, kQuarter = kDims / 4;  // of a simd for the scores
  k_value int kColumns = kDims / kSimds;                          // of a simd for the values
  k_value int kSimdKeys = kTileKeys / kSimds;                     // gathered and decoded by a simd
  k_value int kPartStride = kTileKeys + 4, kWeightStride = kTileKeys + 8;
  k_value int kMostBytes = 592;             // of a stored row
  k_value int kRawBytes = kMostBytes + 16;  // with what lies before it in its 16 bytes
  k_value int kAddresses = 256;             // of keys, found together
  k_value int kOutStride = kColumns + 4;
  k_value float kSlack = 8;
  struct Shared {
    uint16_t keys[2 * kTileKeys * kStride];  // two blocks; the queries at first
    uint8_t raw[kTileKeys * kRawBytes];
    float part[4 * kTileHeads * kPartStride];      // scores by quarters of the dims; output at last
    uint16_t weights[kTileHeads * kWeightStride];  // of the block's keys
    float top[kTileHeads], sum[kTileHeads], factor[kTileHeads];
    int skip[kTileKeys];  // where rows begin in raw
    k_device const uint8_t* from[kAddresses];
  };
  AttentionView p;

  k_call void load_queries(k_private const Group& g, k_shared Shared* sh, int r,
                           int head0) k_const {
    for (int i = int(g.index); i < kTileHeads * kDims / 4; i += kThreads) {
      const int h = i / (kDims / 4), d = i % (kDims / 4) * 4, head = head0 + h;
      uint32_t low = 0, high = 0;
      if (head < p.n_heads && d < p.head_dim) {
        const Word4 v = k_load4(p.q + (int64_t(r) * p.n_heads + head) * p.head_dim + d);
        low = uint32_t(to_half(k_float(v.v[0]))) | uint32_t(to_half(k_float(v.v[1]))) << 16;
        high = uint32_t(to_half(k_float(v.v[2]))) | uint32_t(to_half(k_float(v.v[3]))) << 16;
      }
      k_shared uint32_t* to = reinterpret_cast<k_shared uint32_t*>(sh->keys + h * kStride + d);
      to[0] = low;
      to[1] = high;
    }
    for (int h = int(g.index); h < kTileHeads; h += kThreads) {
      sh->top[h] = p.sinks[min_int(head0 + h, p.n_heads - 1)];  // enlarges the denominator only
      sh->sum[h] = 1;
    }
    g.barrier();
  }

  // Dims that keys do not have.
  k_call void clear_tails(k_private const Group& g, k_shared Shared* sh) k_const {
    const int spare = (kDims - p.head_dim) / 8;
    const Word4 none = {{0, 0, 0, 0}};
    for (int i = int(g.index); i < 2 * kTileKeys * spare; i += kThreads)
      k_store4(sh->keys + i / spare * kStride + p.head_dim + i % spare * 8, none);
  }

  // Starts fetching the keys from `first` on.
  k_call void fetch(k_private const Group& g, k_shared Shared* sh, int r, int first, int n_keys,
                    int n_window) k_const {
    if (first >= n_keys) return;
    if (first % kAddresses == 0) {
      bool compressed;
      const int i = first + int(g.index);
      if (i < n_keys) sh->from[g.index] = key_row(p, r, i, n_window, &compressed);
      g.barrier();
    }
    for (int j = 0; j < kSimdKeys; j++) {
      const int t = int(g.simd) * kSimdKeys + j;
      if (first + t >= n_keys) return;
      const int skip =
          g.copy_row(sh->raw + t * kRawBytes, sh->from[(first + t) % kAddresses], p.row.n_bytes);
      if (g.lane == 0) sh->skip[t] = skip;
    }
  }

  // Eight bytes from any place.
  k_call void raw_words(k_shared const Shared* sh, int at, k_private uint32_t* low,
                        k_private uint32_t* high) k_const {
    k_shared const uint32_t* words = reinterpret_cast<k_shared const uint32_t*>(sh->raw) + at / 4;
    const int shift = at % 4 * 8;
    *low = uint32_t((uint64_t(words[1]) << 32 | words[0]) >> shift);
    *high = uint32_t((uint64_t(words[2]) << 32 | words[1]) >> shift);
  }

  // The keys that the simd fetched; zeros for those beyond `count`.
  k_call void decode(k_private const Group& g, k_shared Shared* sh, int stage, int count) k_const {
    k_shared uint16_t* keys = sh->keys + stage * kTileKeys * kStride;
    const int nope = p.row.nope, tails = (p.head_dim - nope) / 8;
    for (int j = 0; j < kSimdKeys; j++) {
      const int t = int(g.simd) * kSimdKeys + j, row = t * kRawBytes + sh->skip[t];
      for (int u = int(g.lane); u < nope / 8; u += kSimd) {
        Word4 out = {{0, 0, 0, 0}};
        if (t < count) {
          uint32_t low, high;
          raw_words(sh, row + 8 * u, &low, &high);
          fp8_halves(low, high, sh->raw[row + nope + u / 8], out.v);
        }
        k_store4(keys + t * kStride + 8 * u, out);
      }
    }
    // All its keys' tails at once.
    const int t = int(g.simd) * kSimdKeys + int(g.lane) / (kSimd / kSimdKeys);
    const int row = t * kRawBytes + sh->skip[t] + nope + nope / 64;
    for (int u = int(g.lane) % (kSimd / kSimdKeys); u < tails; u += kSimd / kSimdKeys) {
      Word4 out = {{0, 0, 0, 0}};
      if (t < count) {
        uint32_t pair[4];
        raw_words(sh, row + 16 * u, &pair[0], &pair[1]);
        raw_words(sh, row + 16 * u + 8, &pair[2], &pair[3]);
        for (int i = 0; i < 4; i++)
          out.v[i] = uint32_t(to_half(k_float(pair[i] << 16))) |
                     uint32_t(to_half(k_float(pair[i] & 0xffff0000u))) << 16;
      }
      k_store4(keys + t * kStride + nope + 8 * u, out);
    }
  }

  // Simd s: heads 32 (s % 2) .., quarter s / 2 of the dims.
  k_call void multiply(k_private const Group& g, k_shared Shared* sh, int stage,
                       k_private const FragA (&q)[kSimdHeads / 16][kQuarter / 16]) k_const {
    const int quarter = int(g.simd) / 2, head = int(g.simd) % 2 * kSimdHeads;
    for (int t = 0; t < kTileKeys; t += 16) {
      FragC sums[kSimdHeads / 16][2];
      k_unroll for (int m = 0; m < kSimdHeads / 16; m++) for (int i = 0; i < 2; i++)
          g.clear(sums[m][i]);
      k_unroll for (int k = 0; k < kQuarter / 16; k++) {
        FragB keys[2];
        g.load_b_pair(keys,
                      sh->keys + (stage * kTileKeys + t) * kStride + quarter * kQuarter + 16 * k,
                      kStride);
        k_unroll for (int m = 0; m < kSimdHeads / 16; m++) for (int i = 0; i < 2; i++)
            g.mma(sums[m][i], q[m][k], keys[i]);
      }
      k_unroll for (int m = 0; m < kSimdHeads / 16; m++) for (int i = 0; i < 2; i++) g.store_c(
          sums[m][i], sh->part + (quarter * kTileHeads + head + 16 * m) * kPartStride + t + 8 * i,
          kPartStride);
    }
  }

  // Four neighbouring lanes a head, eight keys each.
  k_call void weigh(k_private const Group& g, k_shared Shared* sh, int n_valid) k_const {
    const int h = int(g.index) / 4, t0 = int(g.index) % 4 * 8;
    k_shared const float* part = sh->part + h * kPartStride + t0;
    float z[8];
    k_unroll for (int i = 0; i < 8; i++) z[i] = 0;
    k_unroll for (int quarter = 0; quarter < 4; quarter++) k_unroll for (int i = 0; i < 8; i += 4) {
      const Word4 four = k_load4(part + quarter * kTileHeads * kPartStride + i);
      k_unroll for (int j = 0; j < 4; j++) z[i + j] += k_float(four.v[j]);
    }
    const float before = sh->top[h], least = -k_float(0x7f800000u);
    float top = least;
    k_unroll for (int i = 0; i < 8; i++) {
      z[i] = t0 + i < n_valid ? z[i] * p.scale : least;
      top = max_float(top, z[i]);
    }
    for (unsigned m = 1; m < 4; m *= 2) top = max_float(top, g.simd_shuffle(top, g.lane ^ m));
    top = top > before + kSlack ? top : before;
    float sum = 0;
    Word4 weights;
    k_unroll for (int i = 0; i < 8; i += 2) {
      const float a = k_exp(z[i] - top), c = k_exp(z[i + 1] - top);
      sum += a;
      sum += c;
      weights.v[i / 2] = uint32_t(k_f32_to_f16(a)) | uint32_t(k_f32_to_f16(c)) << 16;
    }
    k_store4(sh->weights + h * kWeightStride + t0, weights);
    for (unsigned m = 1; m < 4; m *= 2) sum += g.simd_shuffle(sum, g.lane ^ m);
    g.simd_barrier();  // all lanes have read the maximum
    if (t0 == 0) {
      const float factor = k_exp(before - top);
      sh->factor[h] = factor;
      sh->sum[h] = k_mad(sh->sum[h], factor, sum);
      sh->top[h] = top;
    }
  }

  // Values of all heads, kColumns of them from kColumns * simd on.
  k_call void add_values(k_private const Group& g, k_shared Shared* sh, int stage,
                         k_private FragC (&values)[kTileHeads / 16][kColumns / 8]) k_const {
    g.simd_barrier();  // lanes decoded keys of different lengths
    const bool moved = sh->factor[g.lane] != 1.0f || sh->factor[g.lane + kSimd] != 1.0f;
    if (g.simd_max(uint32_t(moved)) != 0u) {
      k_unroll for (int m = 0; m < kTileHeads / 16; m++) {
        FragRows factors;
        g.load_rows(factors, sh->factor + 16 * m);
        k_unroll for (int i = 0; i < kColumns / 8; i++) g.scale_rows(values[m][i], factors);
      }
    }
    k_unroll for (int t = 0; t < kTileKeys; t += 16) {
      FragA weights[kTileHeads / 16];
      k_unroll for (int m = 0; m < kTileHeads / 16; m++)
          g.load_a(weights[m], sh->weights + 16 * m * kWeightStride + t, kWeightStride);
      k_unroll for (int i = 0; i < kColumns / 8; i += 2) {
        FragB keys[2];
        g.load_b_across_pair(
            keys[0], keys[1],
            sh->keys + (stage * kTileKeys + t) * kStride + int(g.simd) * kColumns + 8 * i, kStride);
        k_unroll for (int m = 0; m < kTileHeads / 16; m++) for (int j = 0; j < 2; j++)
            g.mma(values[m][i + j], weights[m], keys[j]);
      }
    }
  }

  k_call void store(k_private const Group& g, k_shared Shared* sh, int r, int head0,
                    k_private FragC (&values)[kTileHeads / 16][kColumns / 8]) k_const {
    if (int(g.index) < kTileHeads) sh->factor[g.index] = 1.0f / sh->sum[g.index];
    g.barrier();
    k_shared float* part = sh->part + int(g.simd) * 16 * kOutStride;
    k_unroll for (int m = 0; m < kTileHeads / 16; m++) {
      FragRows factors;
      g.load_rows(factors, sh->factor + 16 * m);
      g.simd_barrier();
      k_unroll for (int i = 0; i < kColumns / 8; i++) {
        g.scale_rows(values[m][i], factors);
        g.store_c(values[m][i], part + 8 * i, kOutStride);
      }
      g.simd_barrier();
      for (int j = int(g.lane); j < 16 * kColumns; j += kSimd) {
        const int head = head0 + 16 * m + j / kColumns;
        const int d = int(g.simd) * kColumns + j % kColumns;
        if (head < p.n_heads && d < p.head_dim)
          p.out[(int64_t(r) * p.n_heads + head) * p.head_dim + d] =
              part[j / kColumns * kOutStride + j % kColumns];
      }
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int head_groups = (p.n_heads + kTileHeads - 1) / kTileHeads;
    const int r = int(g.group) / head_groups, head0 = int(g.group) % head_groups * kTileHeads;
    const int n_keys = all_keys(p, r), n_window = window_keys(p, r);
    fetch(g, sh, r, 0, n_keys, n_window);
    load_queries(g, sh, r, head0);
    FragA q[kSimdHeads / 16][kQuarter / 16];
    k_unroll for (int m = 0; m < kSimdHeads / 16; m++)
        k_unroll for (int k = 0; k < kQuarter / 16; k++)
            g.load_a(q[m][k],
                     sh->keys + (int(g.simd) % 2 * kSimdHeads + 16 * m) * kStride +
                         int(g.simd) / 2 * kQuarter + 16 * k,
                     kStride);
    FragC values[kTileHeads / 16][kColumns / 8];
    k_unroll for (int m = 0; m < kTileHeads / 16; m++)
        k_unroll for (int i = 0; i < kColumns / 8; i++) g.clear(values[m][i]);
    g.copy_wait();
    g.barrier();
    clear_tails(g, sh);
    decode(g, sh, 0, n_keys);
    g.barrier();
    fetch(g, sh, r, kTileKeys, n_keys, n_window);
    for (int first = 0; first < n_keys; first += kTileKeys) {
      const int stage = first / kTileKeys % 2, next = first + kTileKeys;
      multiply(g, sh, stage, q);
      g.copy_wait();
      g.barrier();
      weigh(g, sh, n_keys - first);
      g.barrier();
      // Half of the simds decode while the others multiply.
      if (next < n_keys && g.simd < kSimds / 2) decode(g, sh, 1 - stage, n_keys - next);
      add_values(g, sh, stage, values);
      if (next < n_keys && g.simd >= kSimds / 2) decode(g, sh, 1 - stage, n_keys - next);
      g.barrier();
      fetch(g, sh, r, next + kTileKeys, n_keys, n_window);
    }
    store(g, sh, r, head0, values);
  }
};

}  // namespace kernels
}  // namespace narwhal
