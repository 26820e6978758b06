// How the simds of a group share a tile of weight rows in products of integers (dot.h): which rows
// and units a lane takes, what it does with a unit, and who has the sums.
#pragma once

#include "kernels/experts.h"

namespace narwhal {
namespace kernels {

k_value int kDotThreads = 256, kDotSimds = 8;
k_value int kDotMaxUsed = 32;  // experts of a token

// S simds share a band of 16 rows: a lane has rows lane / 4 and lane / 4 + 8 of it and takes units
// in turn with lanes of other lane % 4. So eight lanes need the same inputs, matrix units take the
// products (dot_lanes), and what the eight read lies side by side (weights.h). A row has a multiple
// of four units, so that a simd has all of its lanes' or none.
template <int S>
struct Band {
  k_value int kSimds = S, kRows = 2, kOutputs = 16 * kDotSimds / S, kPairs = kOutputs / 2;
  k_value int kLanes = 4 * S;                   // that share a row
  k_value int kColumns = S == 8 ? 8192 : 4096;  // of one row of inputs in shared memory at a time

  static k_fn_member int slot(k_private const Group& g) {
    return int(g.simd) % S * 4 + int(g.lane) % 4;
  }
  // The lane's weight row i, of the tile. Pairs are rows of two matrices that make one value (gate
  // and up): those of the lane's rows are pair `pair` of the first and of the second.
  static k_fn_member int row(k_private const Group& g, int i) {
    return int(g.simd) / S * 16 + int(g.lane) / 4 + 8 * i;
  }
  static k_fn_member int pair(k_private const Group& g) {
    return int(g.simd) / S * 8 + int(g.lane) / 4;
  }
};

// N rows of inputs, kColumns of them at a time: a multiple of every codec's 32 units.
template <class Team, class C, int N>
struct DotShared {
  k_value int kColumns = N == 1 ? Team::kColumns : 2048, kHasSums = C::kHasMinus, kZeros = 32;
  uint32_t high[N * kColumns / 4];
  uint32_t skew[4];  // high and low bytes of a run lie in different banks
  uint32_t low[N * kColumns / 4];
  uint32_t zeros[kZeros];  // what input_lanes takes
  float scale[N * kColumns / 32];
  float sum[C::kHasMinus ? N * kColumns / 16 : 1];
  typename C::DotTable table;
  float part[2 * N * kDotSimds * 16];  // sums of 16 rows by every simd, of two tiles in turn
  int32_t experts[kDotMaxUsed];
};

// acc[r][c] += one unit of weight row r . x_c, the first run of which is at column `first` of what
// is in shared memory. Runs lie alike in all units: run s is column(0, s) further than the first,
// in whole blocks of inputs where it has a scale of its own.
template <class C, int N, class Sh, class Table>
k_fn void dot_unit(k_private const Group& g, k_shared const Sh* sh, k_shared const Table* table,
                   k_private const typename C::Raw (&raw)[2], unsigned first,
                   k_private float (&acc)[2][N]) {
  const int kEach = C::kRuns / C::kSums;
  const unsigned kColumns = Sh::kColumns;
  k_unroll for (int j = 0; j < C::kSums; j++) {
    int sums[N][4];
    k_unroll for (int c = 0; c < N; c++) k_unroll for (int i = 0; i < 4; i++) sums[c][i] = 0;
    k_unroll for (int s = j * kEach; s < (j + 1) * kEach; s++) {
      uint32_t words[2][4];
      k_unroll for (int r = 0; r < 2; r++) C::words(raw[r], s, table, g.lane, words[r]);
      k_unroll for (int c = 0; c < N; c++) {
        const unsigned word = (c * kColumns + first) / 4;
        const InputLanes inputs = input_lanes(g, sh->high + word, sh->low + word, sh->zeros);
        ByteInputs in;
        load_inputs(inputs, C::column(0, s) / 4, in);
        dot_lanes(g, words[0], words[1], in, sums[c]);
      }
    }
    k_unroll for (int c = 0; c < N; c++) {
      const float scale =
          sh->scale[(c * kColumns + first) / 32 + unsigned(C::column(0, j * kEach)) / 32];
      k_unroll for (int r = 0; r < 2; r++) {
        const int sum = (256 * sums[c][2 * r] + sums[c][2 * r + 1]) * C::factor(raw[r], j);
        acc[r][c] = k_mad(C::scale(raw[r], j) * scale, float(sum), acc[r][c]);
      }
    }
  }
  k_unroll for (int r = 0; r < 2; r++) if (C::kHasMinus) {
    float least[C::kSums];
    C::least(raw[r], least);
    k_unroll for (int c = 0; c < N; c++) {
      float sum = 0;
      k_unroll for (int j = 0; j < C::kSums; j++) {
        const unsigned nth = (c * kColumns + first) / 16 + unsigned(C::column(0, j * kEach)) / 16;
        sum = k_mad(least[j], sh->sum[nth], sum);
      }
      acc[r][c] = k_mad(-C::least_scale(raw[r]), sum, acc[r][c]);
    }
  }
}

// Where the sums of a band's 16 rows by one of its simds are.
template <class Sh>
k_fn k_shared float* band_part(k_shared Sh* sh, int turn, int n, int c, int simd) {
  return sh->part + ((turn % 2 * n + c) * kDotSimds + simd) * 16;
}

// Sums of a tile's rows, for band_total. `turn` counts tiles; every thread of the group calls.
template <int S, int N, class Sh>
k_fn void band_sum(Band<S>, k_private const Group& g, k_shared Sh* sh, int turn,
                   k_private float (&acc)[2][N]) {
  if (S == 1) g.simd_barrier();  // sums of the tile before have been read
  k_unroll for (int r = 0; r < 2; r++) k_unroll for (int c = 0; c < N; c++) {
    float sum = acc[r][c];
    sum += g.simd_shuffle(sum, g.lane ^ 1u);
    sum += g.simd_shuffle(sum, g.lane ^ 2u);
    if (g.lane % 4 == 0) band_part(sh, turn, N, c, int(g.simd))[int(g.lane) / 4 + 8 * r] = sum;
  }
  if (S == 1)
    g.simd_barrier();
  else
    g.barrier();  // who writes this part again has passed the barrier of the tile between
}
// Row or pair `of` of a band, of which the first simd's lane `of` makes what becomes of the sums.
template <int S, class Sh>
k_fn float band_total(Band<S>, k_private const Group& g, k_shared Sh* sh, int turn, int n, int c,
                      int row) {
  float sum = 0;
  k_unroll for (int i = 0; i < S; i++) sum += band_part(sh, turn, n, c, int(g.simd) + i)[row];
  return sum;
}
template <int S>
k_fn bool is_first(Band<S>, k_private const Group& g) {
  return int(g.simd) % S == 0;
}

}  // namespace kernels
}  // namespace narwhal
