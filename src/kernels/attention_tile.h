// Attention of many rows on matrix units. A group takes kTileHeads heads of one query and goes
// through its keys 16 at a time: keys become halves in shared memory, scores and values are sums of
// half products in f32, and the running softmax rescales the values as its maximum grows.
//
// Stored rows are exact as halves (FP8 by powers of two, BF16 below 65504); queries and the weights
// of the softmax keep 11 bits, which moves an output by about 3e-4 of its size.
#pragma once

#include "kernels/attention.h"
#include "kernels/tile.h"

namespace narwhal {
namespace kernels {

// kBlocks * 128 dims at most.
template <int kBlocks>
struct AttentionTile {
  k_value int kThreads = 256, kSimds = 8;
  k_value int kTileHeads = 16, kTileKeys = 16;
  k_value int kDims = 128 * kBlocks, kStride = kDims + 8;  // halves; rows start in different banks
  k_value int kQuarter = kDims / 4;       // of the dims, which a simd multiplies for the scores
  k_value int kColumns = kDims / kSimds;  // of the values, which a simd holds
  k_value int kWeightStride = kTileKeys + 8;
  struct Shared {
    uint16_t rows[kTileKeys * kStride];            // queries at first, then keys
    uint16_t weights[kTileHeads * kWeightStride];  // of the tile's keys
    float part[kSimds * kTileHeads * 8];           // 16 x 8 of every simd
    float top[kTileHeads], sum[kTileHeads], factor[kTileHeads];
  };
  AttentionView p;

  k_call void load_queries(k_private const Group& g, k_shared Shared* sh, int r,
                           int head0) k_const {
    for (int i = int(g.index); i < kTileHeads * kDims; i += kThreads) {
      const int h = i / kDims, d = i % kDims, head = head0 + h;
      const bool there = head < p.n_heads && d < p.head_dim;
      sh->rows[h * kStride + d] =
          there ? to_half(p.q[(int64_t(r) * p.n_heads + head) * p.head_dim + d]) : uint16_t(0);
    }
    for (int h = int(g.index); h < kTileHeads; h += kThreads) {
      sh->top[h] = p.sinks[min_int(head0 + h, p.n_heads - 1)];  // enlarges the denominator only
      sh->sum[h] = 1;
    }
    g.barrier();
  }

  // Two keys a simd.
  k_call void load_keys(k_private const Group& g, k_shared Shared* sh, int r, int first, int n_keys,
                        int n_window) k_const {
    g.barrier();
    for (int t = int(g.simd); t < kTileKeys; t += kSimds) {
      k_shared uint32_t* to = reinterpret_cast<k_shared uint32_t*>(sh->rows + t * kStride);
      bool compressed = false;
      k_device const uint8_t* row = nullptr;
      if (first + t < n_keys) row = key_row(p, r, first + t, n_window, &compressed);
      const Format f = compressed ? p.compressed.format : p.row;
      for (int d = 2 * int(g.lane); d < kDims; d += 2 * kSimd) {
        uint32_t both = 0;
        if (row && d < p.head_dim)
          both = uint32_t(to_half(row_value(f, row, d))) |
                 uint32_t(to_half(row_value(f, row, d + 1))) << 16;
        to[d / 2] = both;
      }
    }
    g.barrier();
  }

  // Scores of the tile by quarters of the dims; simd s: keys 8 (s % 2) .., quarter s / 2.
  k_call void scores(k_private const Group& g, k_shared Shared* sh,
                     k_private const FragA (&q)[kQuarter / 16]) k_const {
    FragC sums;
    g.clear(sums);
    k_unroll for (int i = 0; i < kQuarter / 16; i++) {
      FragB keys;
      g.load_b(keys, sh->rows + int(g.simd) % 2 * 8 * kStride + int(g.simd) / 2 * kQuarter + 16 * i,
               kStride);
      g.mma(sums, q[i], keys);
    }
    g.store_c(sums, sh->part + int(g.simd) * kTileHeads * 8, 8);
    g.barrier();
  }

  // One thread per head and key; the 16 lanes of a head are neighbours.
  k_call void weigh(k_private const Group& g, k_shared Shared* sh, int n_valid) k_const {
    const int h = int(g.index) / kTileKeys, t = int(g.index) % kTileKeys;
    float z = 0;
    for (int quarter = 0; quarter < 4; quarter++)
      z += sh->part[((quarter * 2 + t / 8) * kTileHeads + h) * 8 + t % 8];
    z = t < n_valid ? z * p.scale : -k_float(0x7f800000u);
    sh->weights[h * kWeightStride + t] = to_half(softmax_step(g, sh, h, t, z));
    g.barrier();
  }

  k_call void add_values(k_private const Group& g, k_shared Shared* sh,
                         k_private FragC (&values)[kColumns / 8]) k_const {
    FragA weights;
    g.load_a(weights, sh->weights, kWeightStride);
    k_unroll for (int i = 0; i < kColumns / 8; i++) {
      FragB keys;
      g.load_b_across(keys, sh->rows + int(g.simd) * kColumns + 8 * i, kStride);
      g.scale_rows(values[i], sh->factor);
      g.mma(values[i], weights, keys);
    }
  }

  k_call void store(k_private const Group& g, k_shared Shared* sh, int r, int head0,
                    k_private FragC (&values)[kColumns / 8]) k_const {
    g.barrier();
    if (int(g.index) < kTileHeads) sh->factor[g.index] = 1.0f / sh->sum[g.index];
    g.barrier();
    k_shared float* part = sh->part + int(g.simd) * kTileHeads * 8;
    k_unroll for (int i = 0; i < kColumns / 8; i++) {
      g.scale_rows(values[i], sh->factor);
      g.simd_barrier();
      g.store_c(values[i], part, 8);
      g.simd_barrier();
      const int d0 = int(g.simd) * kColumns + 8 * i;
      for (int j = int(g.lane); j < kTileHeads * 8; j += kSimd) {
        const int head = head0 + j / 8, d = d0 + j % 8;
        if (head < p.n_heads && d < p.head_dim)
          p.out[(int64_t(r) * p.n_heads + head) * p.head_dim + d] = part[j];
      }
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int head_groups = (p.n_heads + kTileHeads - 1) / kTileHeads;
    const int r = int(g.group) / head_groups, head0 = int(g.group) % head_groups * kTileHeads;
    const int n_keys = all_keys(p, r), n_window = window_keys(p, r);
    load_queries(g, sh, r, head0);
    FragA q[kQuarter / 16];
    k_unroll for (int i = 0; i < kQuarter / 16; i++)
        g.load_a(q[i], sh->rows + int(g.simd) / 2 * kQuarter + 16 * i, kStride);
    FragC values[kColumns / 8];
    k_unroll for (int i = 0; i < kColumns / 8; i++) g.clear(values[i]);
    for (int first = 0; first < n_keys; first += kTileKeys) {
      load_keys(g, sh, r, first, n_keys, n_window);
      scores(g, sh, q);
      weigh(g, sh, min_int(kTileKeys, n_keys - first));
      add_values(g, sh, values);
    }
    store(g, sh, r, head0, values);
  }
};

}  // namespace kernels
}  // namespace narwhal
