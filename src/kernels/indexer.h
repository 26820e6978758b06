// The indexer (model section 8): scores of compressed rows, and the best of them.
#pragma once

#include "kernels/kv_rows.h"

namespace narwhal {
namespace kernels {

// One thread per compressed row, which it holds in registers; heads come from shared memory. Groups
// beyond the visible rows return at once, so that one launch serves any position.
template <int kDim>
struct IndexScores {
  k_value int kThreads = 128, kHeads = 32;  // heads in shared memory at a time
  struct Shared {
    float q[kHeads * kDim];
    float w[kHeads];
  };
  Rows b;
  int n_heads, max_rows;
  int spared;  // queries that see no more rows than this need no scores
  PagedView rows;
  k_device const float* q;  // [n][n_heads][kDim]
  k_device const float* w;  // [n][n_heads]
  k_device float* scores;   // [n][max_rows]

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int blocks = (max_rows + kThreads - 1) / kThreads, r = int(g.group) / blocks;
    const int c0 = int(g.group) % blocks * kThreads;
    const int visible = min_int((b.position[r] + 1) / 4, max_rows);
    if (c0 >= visible || visible <= spared) return;
    const int c = min_int(c0 + int(g.index), visible - 1);
    k_device const uint8_t* row = paged_at(rows, b.slot[r], c);
    float key[kDim];
    k_unroll for (int i = 0; i < kDim; i++) key[i] = row_value(rows.format, row, i);
    float score = 0;
    for (int h0 = 0; h0 < n_heads; h0 += kHeads) {
      const int count = min_int(kHeads, n_heads - h0);
      g.barrier();
      for (int i = int(g.index); i < count * kDim; i += kThreads)
        sh->q[i] = q[(int64_t(r) * n_heads + h0) * kDim + i];
      for (int i = int(g.index); i < count; i += kThreads)
        sh->w[i] = w[int64_t(r) * n_heads + h0 + i];
      g.barrier();
      for (int h = 0; h < count; h++) {
        float dot[4] = {0, 0, 0, 0};
        k_unroll for (int i = 0; i < kDim; i++) dot[i % 4] =
            k_mad(key[i], sh->q[h * kDim + i], dot[i % 4]);
        score = k_mad(sh->w[h], max_float((dot[0] + dot[1]) + (dot[2] + dot[3]), 0.0f), score);
      }
    }
    if (c0 + int(g.index) < visible) scores[int64_t(r) * max_rows + c] = score;
  }
};

// Scores as integers in the same order: NaN counts as -inf, -0 as +0.
k_fn uint32_t ordered_bits(float score) {
  uint32_t bits = k_bits(score);
  if ((bits & 0x7fffffffu) > 0x7f800000u) bits = 0xff800000u;
  if (bits == 0x80000000u) bits = 0u;
  return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}

// One more byte of the k-th largest value, by one simd: count[v] of those that begin with prefix go
// on with v, and the value is the wanted-th largest of them.
k_fn void add_digit(k_private const Group& g, k_shared k_atomic* count, k_shared uint32_t* prefix,
                    k_shared uint32_t* wanted) {
  const uint32_t rank = *wanted;
  uint32_t mine = 0, before = 0;  // lane l looks at values 255 - 8 l downwards
  for (int i = 0; i < 8; i++) mine += k_atomic_get(&count[255 - 8 * int(g.lane) - i]);
  for (unsigned lane = 0; lane < 31; lane++) {
    const uint32_t other = g.simd_shuffle(mine, lane);
    if (lane < g.lane) before += other;
  }
  g.simd_barrier();
  if (before < rank && before + mine >= rank) {
    int value = 255 - 8 * int(g.lane);
    for (; before + k_atomic_get(&count[value]) < rank; value--)
      before += k_atomic_get(&count[value]);
    *prefix = *prefix << 8 | uint32_t(value);
    *wanted = rank - before;
  }
}

// The k largest, the lower id first among equals, ids ascending. One group per query: the k-th
// value is found byte by byte with counts in shared memory; then every thread takes a stretch of
// ids.
struct TopK {
  k_value int kThreads = 512;
  k_value int kBatch = 8;  // scores of a thread on their way together
  struct Shared {
    k_atomic count[256];
    uint32_t prefix, wanted;  // bits of the k-th value so far; how many of its equals are wanted
    uint32_t greater[kThreads], equal[kThreads];
  };
  Rows b;
  int k, max_rows;
  k_device const float* scores;
  k_device int32_t* selected;    // [n][k]
  k_device int32_t* n_selected;  // [n]

  // Scores of the ids first, first + step ..
  k_call void load(k_device const float* score, int visible, int first, int step,
                   k_private uint32_t (&bits)[kBatch]) k_const {
    k_unroll for (int i = 0; i < kBatch; i++) bits[i] =
        ordered_bits(score[min_int(first + i * step, visible - 1)]);
  }

  // Adds one more byte of the k-th value.
  k_call void narrow(k_private const Group& g, k_shared Shared* sh, k_device const float* score,
                     int visible, int shift) k_const {
    for (int i = int(g.index); i < 256; i += kThreads) k_atomic_zero(&sh->count[i]);
    g.barrier();
    const uint32_t prefix = sh->prefix;
    for (int c = int(g.index); c < visible; c += kBatch * kThreads) {
      uint32_t bits[kBatch];
      load(score, visible, c, kThreads, bits);
      k_unroll for (int i = 0; i < kBatch; i++) {
        if (c + i * kThreads >= visible) continue;
        if (shift == 24 || bits[i] >> (shift + 8) == prefix)
          k_atomic_add(&sh->count[bits[i] >> shift & 255u], 1u);
      }
    }
    g.barrier();
    if (g.simd == 0) add_digit(g, sh->count, &sh->prefix, &sh->wanted);
    g.barrier();
  }

  // Exclusive sums of both counts over the threads.
  k_call void scan(k_private const Group& g, k_shared Shared* sh) k_const {
    g.barrier();
    if (g.simd == 0) {
      const int kEach = kThreads / kSimd;
      uint32_t greater = 0, equal = 0, greater_before = 0, equal_before = 0;
      for (int i = 0; i < kEach; i++) {
        greater += sh->greater[g.lane * kEach + i];
        equal += sh->equal[g.lane * kEach + i];
      }
      for (unsigned lane = 0; lane < 31; lane++) {
        const uint32_t a = g.simd_shuffle(greater, lane), e = g.simd_shuffle(equal, lane);
        if (lane < g.lane) {
          greater_before += a;
          equal_before += e;
        }
      }
      for (int i = 0; i < kEach; i++) {
        const unsigned at = g.lane * kEach + i;
        const uint32_t a = sh->greater[at], e = sh->equal[at];
        sh->greater[at] = greater_before;
        sh->equal[at] = equal_before;
        greater_before += a;
        equal_before += e;
      }
    }
    g.barrier();
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int r = int(g.group), visible = (b.position[r] + 1) / 4;
    k_device int32_t* out = selected + int64_t(r) * k;
    if (g.index == 0) n_selected[r] = min_int(visible, k);
    if (visible <= k) {
      for (int c = int(g.index); c < visible; c += kThreads) out[c] = c;
      return;
    }
    k_device const float* score = scores + int64_t(r) * max_rows;
    if (g.index == 0) {
      sh->prefix = 0;
      sh->wanted = uint32_t(k);
    }
    for (int shift = 24; shift >= 0; shift -= 8) narrow(g, sh, score, visible, shift);
    const uint32_t limit = sh->prefix, wanted = sh->wanted;
    const int each = (visible + kThreads - 1) / kThreads, begin = int(g.index) * each;
    const int end = min_int(begin + each, visible);
    uint32_t greater = 0, equal = 0;
    for (int c = begin; c < end; c += kBatch) {
      uint32_t bits[kBatch];
      load(score, visible, c, 1, bits);
      k_unroll for (int i = 0; i < kBatch; i++) {
        if (c + i >= end) continue;
        greater += uint32_t(bits[i] > limit);
        equal += uint32_t(bits[i] == limit);
      }
    }
    sh->greater[g.index] = greater;
    sh->equal[g.index] = equal;
    scan(g, sh);
    greater = sh->greater[g.index];
    equal = sh->equal[g.index];
    for (int c = begin; c < end; c += kBatch) {
      uint32_t bits[kBatch];
      load(score, visible, c, 1, bits);
      k_unroll for (int i = 0; i < kBatch; i++) {
        if (c + i >= end) continue;
        const bool takes = bits[i] > limit || (bits[i] == limit && equal < wanted);
        if (takes) out[greater + (equal < wanted ? equal : wanted)] = c + i;
        greater += uint32_t(bits[i] > limit);
        equal += uint32_t(bits[i] == limit);
      }
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
