// y = W x for many rows, on matrix units: weights and inputs become halves in shared memory, sums
// are f32. A group computes kTileOutputs outputs of kTileTokens rows, 128 columns at a time.
//
// Against f32 arithmetic an output is off by about 2e-4 of its size: inputs and weights keep 11
// bits. Inputs beyond +-65504 are cut there.
#pragma once

#include "kernels/weights.h"

namespace narwhal {
namespace kernels {

k_value int kTileOutputs = 64;
k_value int kTileDepth = 128;  // columns at a time; n_in is a multiple
k_value int kTileStride =
    kTileDepth + 8;  // halves per row of a tile: rows start in different banks
k_value int kTileThreads = 128;
k_value int kTileSumStride = kTileOutputs + 4;
k_value int kTileAcross = kTileTokens == 64 ? 2 : 4;                 // simds along the outputs
k_value int kTileFragTokens = kTileTokens / (4 / kTileAcross) / 16;  // fragments of a simd
k_value int kTileFragOutputs = kTileOutputs / kTileAcross / 8;

// The tiles of both factors; afterwards the sums [kTileTokens][kTileSumStride] lie in `halves`.
template <class C>
struct TileShared {
  uint16_t halves[(kTileOutputs + kTileTokens) * kTileStride];
  int row_of[kTileTokens];  // row of x of each token of the tile, -1 for none
  typename C::Table table;
};

k_fn uint16_t to_half(float x) {
  return k_f32_to_f16(min_float(max_float(x, -65504.0f), 65504.0f));
}

// Rows of one matrix, or (kDual) rows [first, first + kTileOutputs / 2) of two, half a tile each.
template <class C, bool kDual>
k_fn void tile_weights(k_private const Group& g, k_shared TileShared<C>* sh,
                       k_private const Matrix& a, k_private const Matrix& b, int64_t first,
                       int k0) {
  const int kUnits = kTileDepth / C::kUnit;
  for (int item = int(g.index); item < kTileOutputs * kUnits; item += kTileThreads) {
    const int o = item / kUnits, u = k0 / C::kUnit + item % kUnits;
    const bool second = kDual && o >= kTileOutputs / 2;
    const int64_t row = first + (second ? o - kTileOutputs / 2 : o);
    const bool valid = row < a.n_out;
    typename C::Raw raw;
    if (second)
      C::load(b, valid ? row : 0, u, raw);
    else
      C::load(a, valid ? row : 0, u, raw);
    for (int s = 0; s < C::kRuns; s++) {
      Run run;
      C::run(raw, s, &sh->table, run);
      k_shared uint16_t* out = sh->halves + o * kTileStride + C::column(u, s) - k0;
      for (int i = 0; i < C::kRun; i += 2) {
        const float x0 = C::kScaled ? run.scale * run.q[i] - run.minus : run.q[i];
        const float x1 = C::kScaled ? run.scale * run.q[i + 1] - run.minus : run.q[i + 1];
        const uint32_t both = valid ? uint32_t(to_half(x0)) | uint32_t(to_half(x1)) << 16 : 0u;
        *reinterpret_cast<k_shared uint32_t*>(out + i) = both;
      }
    }
  }
}

template <class C>
k_fn void tile_inputs(k_private const Group& g, k_shared TileShared<C>* sh, k_device const float* x,
                      int64_t x_stride, int k0) {
  for (int item = int(g.index); item < kTileTokens * kTileDepth / 4; item += kTileThreads) {
    const int t = item / (kTileDepth / 4), column = item % (kTileDepth / 4) * 4;
    uint32_t low = 0, high = 0;
    if (sh->row_of[t] >= 0) {
      const Word4 v = k_load4(x + sh->row_of[t] * x_stride + k0 + column);
      low = uint32_t(to_half(k_float(v.v[0]))) | uint32_t(to_half(k_float(v.v[1]))) << 16;
      high = uint32_t(to_half(k_float(v.v[2]))) | uint32_t(to_half(k_float(v.v[3]))) << 16;
    }
    k_shared uint32_t* out = reinterpret_cast<k_shared uint32_t*>(
        sh->halves + (kTileOutputs + t) * kTileStride + column);
    out[0] = low;
    out[1] = high;
  }
}

// Sums of the tile, [token][output]. sh->row_of must be set; begins and ends with barriers.
template <class C, bool kDual>
k_fn k_shared float* tile_multiply(k_private const Group& g, k_shared TileShared<C>* sh,
                                   k_private const Matrix& a, k_private const Matrix& b,
                                   int64_t first, k_device const float* x, int64_t x_stride) {
  FragC sums[kTileFragTokens][kTileFragOutputs];
  for (int t = 0; t < kTileFragTokens; t++)
    for (int o = 0; o < kTileFragOutputs; o++) g.clear(sums[t][o]);
  const int t0 = int(g.simd) / kTileAcross * kTileFragTokens * 16;
  const int o0 = int(g.simd) % kTileAcross * kTileFragOutputs * 8;
  for (int k0 = 0; k0 < int(a.n_in); k0 += kTileDepth) {
    g.barrier();
    tile_weights<C, kDual>(g, sh, a, b, first, k0);
    tile_inputs(g, sh, x, x_stride, k0);
    g.barrier();
    for (int k = 0; k < kTileDepth; k += 16) {
      FragA tokens[kTileFragTokens];
      for (int t = 0; t < kTileFragTokens; t++)
        g.load_a(tokens[t], sh->halves + (kTileOutputs + t0 + 16 * t) * kTileStride + k,
                 kTileStride);
      for (int o = 0; o < kTileFragOutputs; o++) {
        FragB outputs;
        g.load_b(outputs, sh->halves + (o0 + 8 * o) * kTileStride + k, kTileStride);
        for (int t = 0; t < kTileFragTokens; t++) g.mma(sums[t][o], tokens[t], outputs);
      }
    }
  }
  g.barrier();
  k_shared float* out = reinterpret_cast<k_shared float*>(sh->halves);
  for (int t = 0; t < kTileFragTokens; t++)
    for (int o = 0; o < kTileFragOutputs; o++)
      g.store_c(sums[t][o], out + (t0 + 16 * t) * kTileSumStride + o0 + 8 * o, kTileSumStride);
  g.barrier();
  return out;
}

// Plain and grouped products, as MatVec.
template <class C>
struct MatTile {
  k_value int kThreads = kTileThreads;
  typedef TileShared<C> Shared;
  Matrix w;
  int n_groups, n;
  k_device const float* x;
  k_device float* y;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    const int64_t per_group = w.n_out / n_groups;
    const int tiles = int((per_group + kTileOutputs - 1) / kTileOutputs);
    const int tile = int(g.group) % (tiles * n_groups);
    const int token0 = int(g.group) / (tiles * n_groups) * kTileTokens, part = tile / tiles;
    const int64_t first = int64_t(tile % tiles) * kTileOutputs;
    const int n_outputs = int(per_group - first < kTileOutputs ? per_group - first : kTileOutputs);
    for (int t = int(g.index); t < kTileTokens; t += kTileThreads)
      sh->row_of[t] = token0 + t < n ? token0 + t : -1;
    k_shared float* sums = tile_multiply<C, false>(g, sh, w, w, part * per_group + first,
                                                   x + part * w.n_in, w.n_in * n_groups);
    for (int item = int(g.index); item < kTileTokens * kTileOutputs; item += kTileThreads) {
      const int t = item / kTileOutputs, o = item % kTileOutputs;
      if (o < n_outputs && token0 + t < n)
        y[(token0 + t) * w.n_out + part * per_group + first + o] = sums[t * kTileSumStride + o];
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
