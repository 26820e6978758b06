// Routed experts (model section 10). Few rows: one simd per weight row of every chosen expert. Many
// rows: (row, choice) pairs sorted by expert, then tiles of matrix units.
#pragma once

#include "kernels/matvec.h"
#include "kernels/tile.h"

namespace narwhal {
namespace kernels {

k_fn float silu_clamped(float gate, float up, float limit) {
  gate = min_float(gate, limit);  // no lower clamp
  up = max_float(-limit, min_float(up, limit));
  return gate / (1.0f + k_exp(-gate)) * up;
}

// hidden[p][j] = silu(min(w1 x, L)) clamp(w3 x, -L, L) weight for every pair p = row * k + choice.
// Without ids there is one expert, of weight 1.
template <class C>
struct ExpertHidden {
  k_value int kThreads = 128, kPerSimd = 2, kOutputs = 4 * kPerSimd;
  struct Shared {
    typename C::Table table;
  };
  Matrix w1, w3;
  int k;
  float limit;
  k_device const float* x;
  k_device const int32_t* ids;
  k_device const float* weights;
  k_device float* hidden;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    const int64_t inner = w1.n_out;
    const int tiles = int((inner + kOutputs - 1) / kOutputs);
    const int pair = int(g.group) / tiles;
    const int64_t j = int64_t(int(g.group) % tiles) * kOutputs + g.simd * kPerSimd;
    if (j >= inner) return;
    const int64_t j1 = j + 1 < inner ? j + 1 : j;
    const int e = ids ? ids[pair] : 0;
    const float weight = ids ? weights[pair] : 1.0f;
    const Matrix a = expert_of(w1, e), b = expert_of(w3, e);
    const Matrix m[4] = {a, a, b, b};
    const int64_t row[4] = {j, j1, j, j1};
    float acc[4][1] = {{0}, {0}, {0}, {0}};
    accumulate<C, 4, 1>(g, &sh->table, m, row, x + pair / k * w1.n_in, 0, 1, acc);
    float sum[4];
    for (int i = 0; i < 4; i++) sum[i] = g.simd_sum(acc[i][0]);
    if (g.lane == 0) {
      hidden[pair * inner + j] = silu_clamped(sum[0], sum[2], limit) * weight;
      if (j1 != j) hidden[pair * inner + j1] = silu_clamped(sum[1], sum[3], limit) * weight;
    }
  }
};

// y[r][o] = sum over r's experts, ascending, of w2_e[o] . hidden.
template <class C>
struct ExpertDown {
  k_value int kThreads = 128, kOutputs = 4;
  struct Shared {
    typename C::Table table;
  };
  Matrix w2;
  int k;
  k_device const int32_t* ids;
  k_device const float* hidden;
  k_device float* y;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    const int tiles = int((w2.n_out + kOutputs - 1) / kOutputs), r = int(g.group) / tiles;
    const int64_t o = int64_t(int(g.group) % tiles) * kOutputs + g.simd;
    if (o >= w2.n_out) return;
    const int64_t row[1] = {o};
    float acc[1][1] = {{0}};
    for (int i = 0; i < k; i++) {
      const int pair = r * k + i;
      const Matrix m[1] = {expert_of(w2, ids[pair])};
      accumulate<C, 1, 1>(g, &sh->table, m, row, hidden + pair * w2.n_in, 0, 1, acc);
    }
    const float sum = g.simd_sum(acc[0][0]);
    if (g.lane == 0) y[r * w2.n_out + o] = sum;
  }
};

// Pairs by expert, rows in order, and the tiles they make: one tile holds pairs of one expert.
struct ExpertOrder {
  k_device int32_t* pairs;  // [n_pairs]
  k_device int32_t* tiles;  // [max_tiles][3]: expert, first entry of `pairs`, how many
  k_device int32_t* n_tiles;
};

struct ExpertSort {
  k_value int kThreads = 256, kMaxExperts = 1024;
  struct Shared {
    int begin[kMaxExperts + 1];
  };
  int n_pairs, n_experts;
  k_device const int32_t* ids;
  ExpertOrder order;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    for (int e = int(g.index); e < n_experts; e += kThreads) {
      int count = 0;
      for (int i = 0; i < n_pairs; i++) count += ids[i] == e;
      sh->begin[e] = count;
    }
    g.barrier();
    if (g.index == 0) {
      int at = 0, n = 0;
      for (int e = 0; e < n_experts; e++) {
        const int count = sh->begin[e];
        sh->begin[e] = at;
        for (int t = 0; t < count; t += kTileTokens, n++) {
          order.tiles[3 * n] = e;
          order.tiles[3 * n + 1] = at + t;
          order.tiles[3 * n + 2] = min_int(count - t, kTileTokens);
        }
        at += count;
      }
      *order.n_tiles = n;
    }
    g.barrier();
    for (int e = int(g.index); e < n_experts; e += kThreads) {
      int at = sh->begin[e];
      for (int i = 0; i < n_pairs; i++)
        if (ids[i] == e) order.pairs[at++] = i;
    }
  }
};

// ExpertHidden by tiles: 32 hidden values, gate and up, of kTileTokens pairs.
template <class C>
struct ExpertHiddenTile {
  k_value int kThreads = kTileThreads, kOutputs = kTileOutputs / 2;
  typedef TileShared<C> Shared;
  Matrix w1, w3;
  int k;
  float limit;
  ExpertOrder order;
  k_device const float* x;
  k_device const float* weights;
  k_device float* hidden;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int64_t inner = w1.n_out;
    const int across = int((inner + kOutputs - 1) / kOutputs), tile = int(g.group) / across;
    if (tile >= *order.n_tiles) return;
    load_table(g, &sh->table);
    k_device const int32_t* at = order.tiles + 3 * tile;
    const int first = at[1], count = at[2];
    const int64_t j0 = int64_t(int(g.group) % across) * kOutputs;
    for (int t = int(g.index); t < kTileTokens; t += kTileThreads)
      sh->row_of[t] = t < count ? order.pairs[first + t] / k : -1;
    const Matrix a = expert_of(w1, at[0]), b = expert_of(w3, at[0]);
    k_shared float* sums = tile_multiply<C, true>(g, sh, a, b, j0, x, w1.n_in);
    for (int item = int(g.index); item < kTileTokens * kOutputs; item += kTileThreads) {
      const int t = item / kOutputs, j = item % kOutputs;
      if (t >= count || j0 + j >= inner) continue;
      const int pair = order.pairs[first + t];
      k_shared const float* row = sums + t * kTileSumStride;
      hidden[pair * inner + j0 + j] =
          silu_clamped(row[j], row[kOutputs + j], limit) * weights[pair];
    }
  }
};

// down[p] = w2_e hidden[p] for every pair.
template <class C>
struct ExpertDownTile {
  k_value int kThreads = kTileThreads;
  typedef TileShared<C> Shared;
  Matrix w2;
  ExpertOrder order;
  k_device const float* hidden;
  k_device float* down;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int across = int((w2.n_out + kTileOutputs - 1) / kTileOutputs);
    const int tile = int(g.group) / across;
    if (tile >= *order.n_tiles) return;
    load_table(g, &sh->table);
    k_device const int32_t* at = order.tiles + 3 * tile;
    const int first = at[1], count = at[2];
    const int64_t o0 = int64_t(int(g.group) % across) * kTileOutputs;
    for (int t = int(g.index); t < kTileTokens; t += kTileThreads)
      sh->row_of[t] = t < count ? order.pairs[first + t] : -1;
    const Matrix m = expert_of(w2, at[0]);
    k_shared float* sums = tile_multiply<C, false>(g, sh, m, m, o0, hidden, w2.n_in);
    for (int item = int(g.index); item < kTileTokens * kTileOutputs; item += kTileThreads) {
      const int t = item / kTileOutputs, o = item % kTileOutputs;
      if (t < count && o0 + o < w2.n_out)
        down[order.pairs[first + t] * w2.n_out + o0 + o] = sums[t * kTileSumStride + o];
    }
  }
};

// y[r] = sum of its k rows of `down`, in order.
struct ExpertSum {
  k_value int kThreads = 256;
  struct Shared {
    int unused;
  };
  int64_t n, d;  // n rows
  int k;
  k_device const float* down;
  k_device float* y;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int64_t i = int64_t(g.group) * kThreads + g.index;
    if (i >= n * d) return;
    const int64_t r = i / d, o = i % d;
    float sum = 0;
    for (int e = 0; e < k; e++) sum += down[(r * k + e) * d + o];
    y[i] = sum;
  }
};

}  // namespace kernels
}  // namespace narwhal
