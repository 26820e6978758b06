// Routed experts of many rows: (row, choice) pairs sorted by expert, then tiles of matrix units.
#pragma once

#include "kernels/experts.h"
#include "kernels/tile.h"

namespace narwhal {
namespace kernels {

// Pairs by expert and the tiles they make: one tile holds pairs of one expert.
struct ExpertOrder {
  k_device int32_t* pairs;  // [n_pairs]
  k_device int32_t* tiles;  // [max_tiles][3]: expert, first entry of `pairs`, how many
  k_device int32_t* n_tiles;
};

// One group. The pairs of an expert come in any order: a pair's results do not depend on its place.
struct ExpertSort {
  k_value int kThreads = 512, kMaxExperts = 1024;
  struct Shared {
    k_atomic count[kMaxExperts];
    int pairs[kMaxExperts], tiles[kMaxExperts];  // of this expert and all before it
  };
  int n_pairs, n_experts, tile_pairs;
  k_device const int32_t* ids;
  ExpertOrder order;

  k_call void add_up(k_private const Group& g, k_shared Shared* sh) k_const {
    for (int step = 1; step < n_experts; step *= 2) {
      int pairs[kMaxExperts / kThreads], tiles[kMaxExperts / kThreads];
      k_unroll for (int i = 0; i < kMaxExperts / kThreads; i++) {
        const int e = int(g.index) + i * kThreads - step;
        const bool there = e >= 0 && e + step < n_experts;
        pairs[i] = there ? sh->pairs[e] : 0;
        tiles[i] = there ? sh->tiles[e] : 0;
      }
      g.barrier();
      k_unroll for (int i = 0; i < kMaxExperts / kThreads; i++) {
        sh->pairs[int(g.index) + i * kThreads] += pairs[i];
        sh->tiles[int(g.index) + i * kThreads] += tiles[i];
      }
      g.barrier();
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    for (int e = int(g.index); e < kMaxExperts; e += kThreads) k_atomic_zero(&sh->count[e]);
    g.barrier();
    for (int i = int(g.index); i < n_pairs; i += kThreads) k_atomic_add(&sh->count[ids[i]], 1u);
    g.barrier();
    for (int e = int(g.index); e < kMaxExperts; e += kThreads) {
      const int count = int(k_atomic_get(&sh->count[e]));
      sh->pairs[e] = count;
      sh->tiles[e] = (count + tile_pairs - 1) / tile_pairs;
      k_atomic_zero(&sh->count[e]);
    }
    g.barrier();
    add_up(g, sh);
    for (int e = int(g.index); e < n_experts; e += kThreads) {
      const int at = e > 0 ? sh->pairs[e - 1] : 0, end = sh->pairs[e];
      k_device int32_t* tile = order.tiles + 3 * (e > 0 ? sh->tiles[e - 1] : 0);
      for (int first = at; first < end; first += tile_pairs, tile += 3) {
        tile[0] = e;
        tile[1] = first;
        tile[2] = min_int(end - first, tile_pairs);
      }
      if (e == n_experts - 1) *order.n_tiles = sh->tiles[e];
    }
    for (int i = int(g.index); i < n_pairs; i += kThreads) {
      const int e = ids[i];
      const int before = e > 0 ? sh->pairs[e - 1] : 0;
      order.pairs[before + int(k_atomic_add(&sh->count[e], 1u))] = i;
    }
  }
};

// ExpertHidden by tiles: 64 hidden values, gate and up, of T pairs. A simd holds 16 gates and their
// 16 ups. `halves` is `hidden` for ExpertDownTile.
template <class C, int T>
struct ExpertHiddenTile {
  k_value int kThreads = kTileThreads, kResident = 2, kOutputs = kTileOutputs / 2;
  typedef TileShared<C, T> Shared;
  Matrix w1, w3;
  int k;
  float limit;
  ExpertOrder order;
  k_device const uint16_t* x;
  k_device const float* weights;
  k_device float* hidden;
  k_device uint16_t* halves;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int64_t inner = w1.n_out;
    const int across = int((inner + kOutputs - 1) / kOutputs), tile = int(g.group) / across;
    if (tile >= *order.n_tiles) return;
    load_table(g, &sh->table);
    k_device const int32_t* at = order.tiles + 3 * tile;
    const int count = at[2];
    k_device const int32_t* pairs = order.pairs + at[1];
    const int64_t j0 = int64_t(int(g.group) % across) * kOutputs;
    for (int t = int(g.index); t < T; t += kTileThreads)
      sh->row_of[t] = pairs[min_int(t, count - 1)] / k;
    FragC sums[T / 32][4];
    const Matrix a = expert_of(w1, at[0]), b = expert_of(w3, at[0]);
    tile_multiply<C, T, true>(g, sh, a, b, j0, x, w1.n_in, count, sums);
    const int lane = int(g.lane) % 16;
    const int64_t j = j0 + first_output(g) / 2 + lane;
    k_unroll for (int t = 0; t < T / 32; t++) {
      k_shared const float* rows = tile_rows<C, T>(g, sh, sums[t]);
      for (int r = int(g.lane) / 16; r < 16; r += 2) {
        const int place = first_row<T>(g) + 16 * t + r;
        if (place >= count || j >= inner) continue;
        const int pair = pairs[place];
        const float gate = rows[r * kTileSumStride + lane];
        const float up = rows[r * kTileSumStride + 16 + lane];
        const float value = silu_clamped(gate, up, limit) * weights[pair];
        hidden[pair * inner + j] = value;
        halves[pair * inner + j] = to_half(value);
      }
    }
  }
};

// down[p] = w2_e hidden[p] for every pair.
template <class C, int T>
struct ExpertDownTile {
  k_value int kThreads = kTileThreads, kResident = 2;
  typedef TileShared<C, T> Shared;
  Matrix w2;
  ExpertOrder order;
  k_device const uint16_t* hidden;
  k_device float* down;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int across = int((w2.n_out + kTileOutputs - 1) / kTileOutputs);
    const int tile = int(g.group) / across;
    if (tile >= *order.n_tiles) return;
    load_table(g, &sh->table);
    k_device const int32_t* at = order.tiles + 3 * tile;
    const int count = at[2];
    k_device const int32_t* pairs = order.pairs + at[1];
    const int64_t first = int64_t(int(g.group) % across) * kTileOutputs;
    for (int t = int(g.index); t < T; t += kTileThreads)
      sh->row_of[t] = pairs[min_int(t, count - 1)];
    FragC sums[T / 32][4];
    const Matrix m = expert_of(w2, at[0]);
    tile_multiply<C, T, false>(g, sh, m, m, first, hidden, w2.n_in, count, sums);
    const int64_t o = first + first_output(g) + int(g.lane);
    k_unroll for (int t = 0; t < T / 32; t++) {
      k_shared const float* rows = tile_rows<C, T>(g, sh, sums[t]);
      const int place = first_row<T>(g) + 16 * t;
      if (o >= w2.n_out) continue;
      for (int r = 0; r < 16 && place + r < count; r++)
        down[pairs[place + r] * w2.n_out + o] = rows[r * kTileSumStride + int(g.lane)];
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
