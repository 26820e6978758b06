// y = W x for many rows, on matrix units: inputs have been rounded to halves (Halves), weights are
// as they come to shared memory, sums are f32. A group computes kTileOutputs outputs of T rows,
// kTileDepth columns a step. While the products of a step run, the inputs of the next are copied to
// the other half of the shared memory and the weights of the one after it are on the way to
// registers.
//
// Against f32 arithmetic an output is off by about 2e-4 of its size: inputs and weights keep 11
// bits. Inputs beyond +-65504 are cut there. A row's sums are added in the order of the columns,
// whatever T and the rows beside it.
#pragma once

#include "kernels/matvec.h"
#include "kernels/tile_weights.h"

namespace narwhal {
namespace kernels {

k_value int kTileOutputs = 128;
k_value int kTileDepth = 32;   // columns of a step
k_value int kTileWidth = 128;  // n_in is a multiple
// Halves per row of a tile: eight rows' 16 bytes lie in different banks.
k_value int kTileStride = kTileDepth + 8;
k_value int kTileThreads = 256;  // 2 x 4 simds of T / 2 rows and 32 outputs
k_value int kTileSimdOutputs = 32;
k_value int kTileSumStride = kTileSimdOutputs + 8;

// Two stages of [T rows of inputs | kTileOutputs rows of weights]; sums of 16 rows a simd at last.
template <class C, int T>
struct TileShared {
  alignas(16) uint16_t halves[2 * (T + kTileOutputs) * kTileStride];
  int row_of[T];  // row of x of each row of the tile; any valid one where there is none
  typename C::Table table;
};

k_fn uint16_t to_half(float x) {
  return k_f32_to_f16(min_float(max_float(x, -65504.0f), 65504.0f));
}

// y = x as halves, n values, a multiple of 8.
struct Halves {
  k_value int kThreads = 256, kValues = 8;
  struct Shared {
    int unused;
  };
  int64_t n;
  k_device const float* x;
  k_device uint16_t* y;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int64_t i = (int64_t(g.group) * kThreads + g.index) * kValues;
    if (i >= n) return;
    Word4 out;
    for (int part = 0; part < 2; part++) {
      const Word4 in = k_load4(x + i + 4 * part);
      for (int j = 0; j < 2; j++)
        out.v[2 * part + j] = uint32_t(to_half(k_float(in.v[2 * j]))) |
                              uint32_t(to_half(k_float(in.v[2 * j + 1]))) << 16;
    }
    k_store4(y + i, out);
  }
};

// What one thread brings to shared memory in a step: 16 bytes of inputs of some rows, and 16
// weights of one. Eight neighbours have the same columns of eight rows: they write to different
// banks.
template <int T>
struct TileInputs {
  k_value int kPerRow = kTileDepth / 8, kTogether = kTileThreads / kPerRow;  // rows at a time
  k_value int kPieces = (T + kTogether - 1) / kTogether;
  k_device const uint16_t* x[kPieces];
  int place;  // of the first piece, in a stage

  k_call void start(k_private const Group& g, k_shared const int* row_of,
                    k_device const uint16_t* from, int64_t stride) {
    const int t = int(g.simd) * 8 + int(g.lane) % 8, column = int(g.lane) / 8 * 8;
    place = t * kTileStride + column;
    k_unroll for (int i = 0; i < kPieces; i++) {
      x[i] = from + row_of[(t + i * kTogether) % T] * stride + column;
    }
  }
  k_call void copy(k_private const Group& g, k_shared uint16_t* stage, int k0) k_const {
    if (T < kTogether && int(g.simd) * 8 >= T) return;
    k_unroll for (int i = 0; i < kPieces; i++) {
      g.copy_async(stage + place + i * kTogether * kTileStride, x[i] + k0);
    }
  }
};

k_fn int weight_output(k_private const Group& g) {  // the row of the tile that a thread brings
  return int(g.simd) * 16 + int(g.lane) / 16 * 8 + int(g.lane) % 8;
}
k_fn int weight_column(k_private const Group& g) { return int(g.lane) / 8 % 2 * kHalfRun; }

// kDual: blocks of 16 rows of a and of b in turn, from row `first` of both.
template <class C, bool kDual>
k_fn Planes weight_row(k_private const Group& g, k_private const Matrix& a,
                       k_private const Matrix& b, int64_t first) {
  const int o = weight_output(g);
  const int64_t at = first + (kDual ? o / 32 * 16 + o % 16 : o);
  const int64_t row = at < a.n_out ? at : a.n_out - 1;  // beyond the last: not stored
  return kDual && o % 32 >= 16 ? planes_of<C>(b, row) : planes_of<C>(a, row);
}

template <class C>
k_fn void store_weights(k_private const Group& g, k_shared uint16_t* to,
                        k_shared const typename C::Table* table, int k0,
                        k_private const typename HalfRun<C>::Raw& raw) {
  uint32_t words[8];
  HalfRun<C>::halves(raw, k0 + weight_column(g), table, g.lane, words);
  to += weight_output(g) * kTileStride + weight_column(g);
  const Word4 low = {{words[0], words[1], words[2], words[3]}};
  const Word4 high = {{words[4], words[5], words[6], words[7]}};
  k_store4(to, low);
  k_store4(to + 8, high);
}

// A simd sums rows [first_row, + T / 2) of the tile and outputs [first_output, + 32).
template <int T>
k_fn int first_row(k_private const Group& g) {
  return int(g.simd) / 4 * (T / 2);
}
k_fn int first_output(k_private const Group& g) { return int(g.simd) % 4 * kTileSimdOutputs; }

template <int T>
k_fn void tile_step(k_private const Group& g, k_shared const uint16_t* stage,
                    k_private FragC (&sums)[T / 32][4]) {
  k_shared const uint16_t* inputs = stage + first_row<T>(g) * kTileStride;
  k_shared const uint16_t* weights = stage + (T + first_output(g)) * kTileStride;
  k_unroll for (int k = 0; k < kTileDepth; k += 16) {
    FragA rows[T / 32];
    FragB outputs[4];
    k_unroll for (int t = 0; t < T / 32; t++) {
      g.load_a(rows[t], inputs + 16 * t * kTileStride + k, kTileStride);
    }
    k_unroll for (int o = 0; o < 4; o += 2) {
      g.load_b_pair(outputs + o, weights + 8 * o * kTileStride + k, kTileStride);
    }
    k_unroll for (int i = 0; i < T / 8; i++) g.mma(sums[i / 4][i % 4], rows[i / 4], outputs[i % 4]);
  }
}

// The sums of a tile of n_rows rows; those beyond are whatever. sh->row_of and the table must be
// set; begins and ends with barriers, after which sh->halves is free.
template <class C, int T, bool kDual>
k_fn void tile_multiply(k_private const Group& g, k_shared TileShared<C, T>* sh,
                        k_private const Matrix& a, k_private const Matrix& b, int64_t first,
                        k_device const uint16_t* x, int64_t x_stride, int n_rows,
                        k_private FragC (&sums)[T / 32][4]) {
  const int kWeights = T * kTileStride, kStage = kWeights + kTileOutputs * kTileStride;
  k_unroll for (int i = 0; i < T / 8; i++) g.clear(sums[i / 4][i % 4]);
  g.barrier();
  TileInputs<T> inputs;
  inputs.start(g, sh->row_of, x, x_stride);
  const Planes row = weight_row<C, kDual>(g, a, b, first);
  typename HalfRun<C>::Raw raw;
  const int n_in = int(a.n_in), column = weight_column(g);
  inputs.copy(g, sh->halves, 0);
  HalfRun<C>::load(row, column, raw);
  store_weights<C>(g, sh->halves + kWeights, &sh->table, 0, raw);
  HalfRun<C>::load(row, kTileDepth + column, raw);
  g.copy_wait();
  g.barrier();
  // In a large tile all simds multiply: without a branch, decoding mixes with products.
  const bool multiplies = T == kTileTokens || first_row<T>(g) < n_rows;
  int stage = 0;
  for (int next = kTileDepth; next < n_in; next += kTileDepth) {
    const int other = kStage - stage;
    inputs.copy(g, sh->halves + other, next);
    if (multiplies) tile_step<T>(g, sh->halves + stage, sums);
    store_weights<C>(g, sh->halves + other + kWeights, &sh->table, next, raw);
    // Once more at the end, for nothing.
    HalfRun<C>::load(row, min_int(next + kTileDepth, n_in - kTileDepth) + column, raw);
    g.copy_wait();
    g.barrier();
    stage = other;
  }
  if (multiplies) tile_step<T>(g, sh->halves + stage, sums);
  g.barrier();
}

// Sums of 16 rows of a simd in shared memory, [16][kTileSumStride].
template <class C, int T>
k_fn k_shared const float* tile_rows(k_private const Group& g, k_shared TileShared<C, T>* sh,
                                     k_private const FragC (&sums)[4]) {
  k_shared float* out =
      reinterpret_cast<k_shared float*>(sh->halves) + int(g.simd) * 16 * kTileSumStride;
  g.simd_barrier();
  k_unroll for (int o = 0; o < 4; o++) g.store_c(sums[o], out + 8 * o, kTileSumStride);
  g.simd_barrier();
  return out;
}

// Plain and grouped products of several matrices, as MatVec, of inputs as halves.
template <class C, int T>
struct MatTile {
  k_value int kThreads = kTileThreads, kResident = 2;
  typedef TileShared<C, T> Shared;
  ProductList list;
  int n_groups, n;
  int add;  // y += instead of y =
  k_device const uint16_t* x;

  static k_fn_member int outputs(int64_t, int64_t) { return kTileOutputs; }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    const int all = list.all_tiles(), token0 = int(g.group) / all * T;
    Matrix w;
    const int tile = list.find(int(g.group) % all, &w);
    k_device float* y = list.output(int(g.group) % all);
    const int64_t per_group = w.n_out / n_groups;
    const int tiles = int((per_group + kTileOutputs - 1) / kTileOutputs), part = tile / tiles;
    const int64_t in_group = int64_t(tile % tiles) * kTileOutputs;
    const int64_t first = part * per_group + in_group;
    for (int t = int(g.index); t < T; t += kTileThreads) sh->row_of[t] = min_int(token0 + t, n - 1);
    FragC sums[T / 32][4];
    tile_multiply<C, T, false>(g, sh, w, w, first, x + part * w.n_in, w.n_in * n_groups, n - token0,
                               sums);
    const int o = first_output(g) + int(g.lane);
    k_unroll for (int t = 0; t < T / 32; t++) {
      k_shared const float* rows = tile_rows<C, T>(g, sh, sums[t]);
      const int token = token0 + first_row<T>(g) + 16 * t;
      if (in_group + o >= per_group) continue;
      for (int r = 0; r < 16 && token + r < n; r++) {
        const float sum = rows[r * kTileSumStride + int(g.lane)];
        k_device float* out = y + (token + r) * w.n_out + first + o;
        *out = add ? *out + sum : sum;
      }
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
