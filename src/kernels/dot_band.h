// How the simds of a group share a tile of weight rows in products of integers (dot.h): which rows
// and units a lane takes, what it does with a unit, and who has the sums.
#pragma once

#include "kernels/experts.h"

namespace narwhal {
namespace kernels {

k_value int kDotThreads = 256, kDotSimds = 8;
k_value int kDotMaxUsed = 32;  // experts of a token

// S simds share a band of 8 R rows: a lane has rows lane / 4, lane / 4 + 8 .. of it and takes units
// in turn with lanes of other lane % 4. So eight lanes need the same inputs, matrix units take the
// products (dot_lanes), and what the eight read lies side by side (weights.h). A row has a multiple
// of four units, so that a simd has all of its lanes' or none.
template <int S, int R = 2>
struct Band {
  k_value int kSimds = S, kRows = R, kBandRows = 8 * R;  // of a lane, of all
  k_value int kOutputs = kBandRows * kDotSimds / S, kPairs = kOutputs / 2;
  k_value int kLanes = 4 * S;  // that share a row
  k_value int kThreads = kDotThreads;
  // Inputs in shared memory at a time: of one row, of each of several.
  k_value int kColumns = S == 8 ? 8192 : 4096, kColumnsEach = 2048;

  static k_fn_member int slot(k_private const Group& g) {
    return int(g.simd) % S * 4 + int(g.lane) % 4;
  }
  // The lane's weight row i, of the tile. Pairs are rows of two matrices that make one value (gate
  // and up): those of the lane's rows are pair `pair` of the first and of the second.
  static k_fn_member int row(k_private const Group& g, int i) {
    return int(g.simd) / S * kBandRows + int(g.lane) / 4 + 8 * i;
  }
  static k_fn_member int pair(k_private const Group& g) {
    return int(g.simd) / S * 8 + int(g.lane) / 4;
  }
};

// N rows of inputs, kColumns of them at a time: a multiple of every codec's 32 units.
template <class Team, class C, int N>
struct DotShared {
  k_value int kThreads = Team::kThreads;
  k_value int kColumns = N == 1 ? Team::kColumns : Team::kColumnsEach, kHasSums = C::kHasMinus,
              kZeros = 32;
  uint32_t high[N * kColumns / 4];
  uint32_t skew_low[4];  // high and low bytes of a run and zeros lie in different banks
  uint32_t low[N * kColumns / 4];
  uint32_t skew_zeros[4];
  uint32_t zeros[kZeros];  // what input_lanes takes
  float scale[N * kColumns / 32];
  float sum[C::kHasMinus ? N * kColumns / 16 : 1];
  typename C::DotTable table;
  // Sums of a band's rows by every simd, of two tiles in turn.
  float part[Team::kSimds == 1 ? 1 : 2 * N * kDotSimds * Team::kBandRows];
  int32_t experts[kDotMaxUsed];
};

// What a lane reads of the inputs in shared memory for one unit: of the first row, the others are
// kColumns further.
struct UnitInputs {
  InputLanes bytes;
  k_shared const float *scale, *sum;
};
// From column `first` of what is in shared memory on, where the unit's first run is.
template <class C, class Sh>
k_fn UnitInputs unit_inputs(k_private const Group& g, k_shared const Sh* sh, unsigned first) {
  return {input_lanes(g, sh->high + first / 4, sh->low + first / 4, sh->zeros),
          sh->scale + first / 32, sh->sum + (C::kHasMinus ? first / 16 : 0)};
}
// The same `columns` further, whole blocks.
template <class C>
k_fn UnitInputs skip_columns(k_private const UnitInputs& in, int columns) {
  return {skip_inputs(in.bytes, columns / 4), in.scale + columns / 32,
          in.sum + (C::kHasMinus ? columns / 16 : 0)};
}

// acc[r][c] += one unit of weight row r . x_c. Runs lie alike in all units: run s is column(0, s)
// further than the first, in whole blocks of inputs where it has a scale of its own.
template <class C, int kColumns, int R, int N, class Table>
k_fn void dot_unit(k_private const Group& g, k_shared const Table* table,
                   k_private const UnitInputs& x, k_private const typename C::Raw (&raw)[R],
                   k_private float (&acc)[R][N]) {
  const int kEach = C::kRuns / C::kSums;
  k_unroll for (int j = 0; j < C::kSums; j++) {
    int sums[N][R / 2][4];
    k_unroll for (int c = 0; c < N; c++) k_unroll for (int i = 0; i < 2 * R; i++)
        sums[c][i / 4][i % 4] = 0;
    k_unroll for (int s = j * kEach; s < (j + 1) * kEach; s++) {
      uint32_t words[R][4];
      k_unroll for (int r = 0; r < R; r++) C::words(raw[r], s, table, g.lane, words[r]);
      k_unroll for (int c = 0; c < N; c++) {
        const InputLanes bytes = skip_inputs(x.bytes, c * kColumns / 4);
        ByteInputs in;
        load_inputs(bytes, C::column(0, s) / 4, in);
        k_unroll for (int r = 0; r < R; r += 2)
            dot_lanes(g, words[r], words[r + 1], in, sums[c][r / 2]);
      }
    }
    k_unroll for (int c = 0; c < N; c++) {
      const float scale = x.scale[(c * kColumns + C::column(0, j * kEach)) / 32];
      k_unroll for (int r = 0; r < R; r++) {
        k_private const int* two = sums[c][r / 2] + r % 2 * 2;
        const int sum = (256 * two[0] + two[1]) * C::factor(raw[r], j);
        acc[r][c] = k_mad(C::scale(raw[r], j) * scale, float(sum), acc[r][c]);
      }
    }
  }
  k_unroll for (int r = 0; r < R; r++) if (C::kHasMinus) {
    float least[C::kSums];
    C::least(raw[r], least);
    k_unroll for (int c = 0; c < N; c++) {
      float sum = 0;
      k_unroll for (int j = 0; j < C::kSums; j++) sum =
          k_mad(least[j], x.sum[(c * kColumns + C::column(0, j * kEach)) / 16], sum);
      acc[r][c] = k_mad(-C::least_scale(raw[r]), sum, acc[r][c]);
    }
  }
}

// Where the sums of a band's rows by one of its simds are.
template <class Team, class Sh>
k_fn k_shared float* band_part(k_shared Sh* sh, int turn, int n, int c, int simd) {
  return sh->part + ((turn % 2 * n + c) * kDotSimds + simd) * Team::kBandRows;
}

// The sum over the four lanes of a row, for each of them.
k_fn float row_sum(k_private const Group& g, float x) {
  x += g.simd_shuffle(x, g.lane ^ 1u);
  x += g.simd_shuffle(x, g.lane ^ 2u);
  return x;
}

// Sums of a tile's rows, for band_total. `turn` counts tiles; every thread of the group calls.
template <int S, int R, int N, class Sh>
k_fn void band_sum(Band<S, R>, k_private const Group& g, k_shared Sh* sh, int turn,
                   k_private float (&acc)[R][N]) {
  k_unroll for (int r = 0; r < R; r++) k_unroll for (int c = 0; c < N; c++) {
    const float sum = row_sum(g, acc[r][c]);
    if (g.lane % 4 == 0)
      band_part<Band<S, R>>(sh, turn, N, c, int(g.simd))[int(g.lane) / 4 + 8 * r] = sum;
  }
  g.barrier();  // who writes this part again has passed the barrier of the tile between
}
// Row or pair `of` of a band, of which the first simd's lane `of` makes what becomes of the sums.
template <int S, int R, class Sh>
k_fn float band_total(Band<S, R>, k_private const Group& g, k_shared Sh* sh, int turn, int n, int c,
                      int row) {
  float sum = 0;
  k_unroll for (int i = 0; i < S; i++) sum +=
      band_part<Band<S, R>>(sh, turn, n, c, int(g.simd) + i)[row];
  return sum;
}
template <int S, int R>
k_fn bool is_first(Band<S, R>, k_private const Group& g) {
  return int(g.simd) % S == 0;
}

}  // namespace kernels
}  // namespace narwhal
