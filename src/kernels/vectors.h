// Norms, sums, gating and copies of rows.
#pragma once

#include "kernels/experts.h"
#include "kernels/rope.h"

namespace narwhal {
namespace kernels {

struct NoShared {
  int unused;
};

struct PartShared {
  float part[32];
};

// y = w * x / rms(x), one group per row; y may be x. The first kHeld values of a thread stay in
// registers.
struct RmsNorm {
  k_value int kThreads = 512, kHeld = 8;
  typedef PartShared Shared;
  int64_t d;
  k_device const float* x;
  k_device const float* w;
  float eps;
  k_device float* y;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    k_device const float* in = x + g.group * d;
    k_device float* out = y + g.group * d;
    const int first = int(g.index);
    float held[kHeld], weight[kHeld], squares = 0;
    k_unroll for (int i = 0; i < kHeld; i++) {
      const bool there = first + i * kThreads < d;
      held[i] = there ? in[first + i * kThreads] : 0.0f;
      weight[i] = there ? w[first + i * kThreads] : 0.0f;
    }
    k_unroll for (int i = 0; i < kHeld; i++) squares = k_mad(held[i], held[i], squares);
    for (int i = first + kHeld * kThreads; i < d; i += kThreads)
      squares = k_mad(in[i], in[i], squares);
    const float scale = 1.0f / k_sqrt(group_sum(g, sh->part, squares) / float(d) + eps);
    k_unroll for (int i = 0; i < kHeld; i++) if (first + i * kThreads < d)
        out[first + i * kThreads] = held[i] * scale * weight[i];
    for (int i = first + kHeld * kThreads; i < d; i += kThreads) out[i] = in[i] * scale * w[i];
  }
};

// Per head q / rms(q), then, with a table, rope on the last `rope` dims. One simd per head, in
// place.
struct HeadNormRope {
  k_value int kThreads = 256, kHeads = 8;
  typedef NoShared Shared;
  int n_heads_in_all, n_heads, dim, rope;  // rope 0: norm only
  float eps;
  k_device const float* table;  // [n][rope / 2][2]
  k_device float* q;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int head = int(g.group) * kHeads + int(g.simd);
    if (head >= n_heads_in_all) return;
    k_device float* at = q + int64_t(head) * dim + g.lane;
    float v[kMaxHeld], squares = 0;
    k_unroll for (int j = 0; j < kMaxHeld; j++) v[j] =
        j * kSimd + int(g.lane) < dim ? at[j * kSimd] : 0.0f;
    k_unroll for (int j = 0; j < kMaxHeld; j++) squares = k_mad(v[j], v[j], squares);
    const float scale = 1.0f / k_sqrt(g.simd_sum(squares) / float(dim) + eps);
    k_unroll for (int j = 0; j < kMaxHeld; j++) v[j] *= scale;
    if (rope > 0) rotate_held(g, dim, rope, table + int64_t(head / n_heads) * rope, v);
    k_unroll for (int j = 0; j < kMaxHeld; j++) if (j * kSimd + int(g.lane) < dim) at[j * kSimd] =
        v[j];
  }
};

// Rotates the last `rope` dims of each head, or back. One thread per pair, in place.
struct RopeTail {
  k_value int kThreads = 256;
  typedef NoShared Shared;
  int64_t n_pairs;  // rows * heads * rope / 2
  int n_heads, dim, rope;
  float sign;
  k_device const float* table;
  k_device float* x;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int64_t pair = int64_t(g.group) * kThreads + g.index;
    if (pair >= n_pairs) return;
    const int64_t head = pair / (rope / 2);
    const int i = int(pair % (rope / 2)) * 2;
    k_device const float* turn = table + head / n_heads * rope + i;
    k_device float* u = x + head * dim + dim - rope + i;
    const float c = turn[0], s = sign * turn[1], a = u[0], b = u[1];
    u[0] = a * c - b * s;
    u[1] = a * s + b * c;
  }
};

struct Add {
  k_value int kThreads = 256;
  typedef NoShared Shared;
  int64_t n;
  k_device const float* b;
  k_device float* a;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int64_t i = int64_t(g.group) * kThreads + g.index;
    if (i < n) a[i] += b[i];
  }
};

struct SwiGlu {
  k_value int kThreads = 256;
  typedef NoShared Shared;
  int64_t n;
  float limit;
  k_device const float* u;
  k_device float* gate;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int64_t i = int64_t(g.group) * kThreads + g.index;
    if (i < n) gate[i] = silu_clamped(gate[i], u[i], limit);
  }
};

// out[i] = src row index[i], n_pieces groups per row.
struct GatherRows {
  k_value int kThreads = 256, kPiece = 4 * kThreads;  // values of a group
  typedef NoShared Shared;
  k_device const int32_t* index;
  int64_t d;
  int n_pieces;
  k_device const float* src;
  k_device float* out;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int64_t row = g.group / unsigned(n_pieces);
    k_device const float* from = src + index[row] * d;
    const int64_t first = int64_t(g.group % unsigned(n_pieces)) * kPiece + g.index;
    k_unroll for (int i = 0; i < kPiece / kThreads; i++) if (first + i * kThreads < d)
        out[row * d + first + i * kThreads] = from[first + i * kThreads];
  }
};

// Row r of this step into its ring, unless a later row of the step takes the same entry; by the
// whole group.
k_fn void store_in_ring(k_private const Group& g, k_private const Rows& b,
                        k_private const RingView& ring, k_device const uint8_t* src, int r) {
  const int later = r + ring.capacity;
  if (later < b.n && b.first_row[later] == b.first_row[r]) return;
  k_device uint8_t* to = ring_at(ring, b.slot[r], b.position[r]);
  k_device const uint8_t* from = src + int64_t(r) * ring.row_bytes;
  for (int i = int(g.index); i < ring.row_bytes; i += int(g.size)) to[i] = from[i];
}

struct RingStore {
  k_value int kThreads = 256;
  typedef NoShared Shared;
  Rows b;
  RingView ring;
  k_device const uint8_t* src;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    store_in_ring(g, b, ring, src, int(g.group));
  }
};

}  // namespace kernels
}  // namespace narwhal
