// How the simds of a group share a tile of weight rows in products of integers (dot.h): which rows
// and units a lane takes, what it does with a unit, and who has the sums.
#pragma once

#include "kernels/experts.h"

namespace narwhal {
namespace kernels {

k_value int kDotThreads = 256, kDotSimds = 8;
k_value int kDotMaxUsed = 32;  // experts of a token

// A simd has R weight rows of the tile, of which its lanes take units in turn. Pairs are rows of
// two matrices that make one value (gate and up).
template <int R>
struct Apart {
  k_value int kRows = R, kOutputs = kDotSimds * R, kPairs = R / 2;
  k_value int kLanes = kSimd;   // that share a row
  k_value int kWanted = 0;      // units in a batch: what Ahead says
  k_value int kColumns = 8192;  // of one row of inputs in shared memory at a time
  k_value int kTwists = 1, kPartWords = 1, kZeros = 1;

  static k_fn_member int slot(k_private const Group& g) { return int(g.lane); }
  // The lane's weight row or pair i, of the tile.
  static k_fn_member int row(k_private const Group& g, int i) { return int(g.simd) * R + i; }
  static k_fn_member int pair(k_private const Group& g, int i) { return int(g.simd) * kPairs + i; }
  // Those of which the thread has the sums.
  k_value int kOwnRows = R, kOwnPairs = kPairs;
  static k_fn_member bool owns_rows(k_private const Group& g) { return g.lane == 0; }
  static k_fn_member bool owns_pairs(k_private const Group& g) { return g.lane == 0; }
  static k_fn_member int own_row(k_private const Group& g, int i) { return row(g, i); }
  static k_fn_member int own_pair(k_private const Group& g, int i) { return pair(g, i); }
};

// S simds share 16 rows: a lane has rows lane / 4 and lane / 4 + 8 of them and takes units in turn
// with lanes of other lane % 4. What makes bytes of the weights is then most of the work: matrix
// units take the products (dot_lanes), and the eight lanes of one lane % 4 need the same inputs. A
// row has a multiple of four units, so that a simd has all of its lanes' or none.
template <int S>
struct Band {
  k_value int kRows = 2, kOutputs = 16 * kDotSimds / S, kPairs = 1;
  k_value int kLanes = 4 * S;
  k_value int kWanted = 2;
  k_value int kColumns = 1024 * S;  // two groups with a table share an A100's 164 KiB
  k_value int kTwists = 0, kPartWords = 16 * kDotSimds, kZeros = 32;

  static k_fn_member int slot(k_private const Group& g) {
    return int(g.simd) % S * 4 + int(g.lane) % 4;
  }
  static k_fn_member int row(k_private const Group& g, int i) {
    return int(g.simd) / S * 16 + int(g.lane) / 4 + 8 * i;
  }
  static k_fn_member int pair(k_private const Group& g, int) {
    return int(g.simd) / S * 8 + int(g.lane) / 4;
  }
  k_value int kOwnRows = 1, kOwnPairs = 1;
  static k_fn_member bool owns_rows(k_private const Group& g) { return int(g.index) < kOutputs; }
  static k_fn_member bool owns_pairs(k_private const Group& g) {
    return int(g.index) < kOutputs / 2;
  }
  static k_fn_member int own_row(k_private const Group& g, int) { return int(g.index); }
  static k_fn_member int own_pair(k_private const Group& g, int) { return int(g.index); }
};

// N rows of inputs, kColumns of them at a time: a multiple of every codec's 32 units.
template <class Team, class C, int N>
struct DotShared {
  k_value int kColumns = N == 1 ? Team::kColumns : 2048, kHasSums = C::kHasMinus,
              kZeros = Team::kZeros;
  k_value int kTwists = Team::kTwists, kTwist = C::kTwist;
  uint32_t high[N * kColumns / 4];
  uint32_t skew[4];  // high and low bytes of a run lie in different banks
  uint32_t low[N * kColumns / 4];
  uint32_t zeros[kZeros];  // what input_lanes takes
  float scale[N * kColumns / 32];
  float sum[C::kHasMinus ? N * kColumns / 16 : 1];
  typename C::DotTable table;
  float part[2 * N * Team::kPartWords];  // sums of the simds, of two tiles in turn
  int32_t experts[kDotMaxUsed];
};

// Where a run of 16 columns lies in its plane. Apart, lanes read runs that are 16 to 64 columns
// apart; those of 128 columns are exchanged so that eight neighbouring lanes meet all banks.
// Columns that are a multiple of 512 apart, as those of a lane are, lie as far apart.
template <class Sh>
k_fn int dot_place(int column) {
  const int run = column / 16;
  return Sh::kTwists ? (run ^ (run / 8 & 3) << Sh::kTwist) * 16 : column;
}

// Where the inputs of a lane's first unit are; those of its others are multiples of kLanes units
// further.
template <class Team, class C>
struct DotPlace;

template <int R, class C>
struct DotPlace<Apart<R>, C> {
  int plane[C::kRuns], column[C::kRuns];
};
template <class Sh, int R, class C>
k_fn void find_place(k_private const Group& g, k_private DotPlace<Apart<R>, C>& at) {
  k_unroll for (int s = 0; s < C::kRuns; s++) {
    at.column[s] = C::column(int(g.lane), s);
    at.plane[s] = dot_place<Sh>(at.column[s]);
  }
}

template <int S, class C>
struct DotPlace<Band<S>, C> {
  int column;
};
template <class Sh, int S, class C>
k_fn void find_place(k_private const Group& g, k_private DotPlace<Band<S>, C>& at) {
  at.column = C::column(Band<S>::slot(g), 0);
}

// acc[r][c] += one unit of weight row r . x_c, of the unit `before` columns after the lane's first.
template <int R, class C, int N, class Sh, class Table>
k_fn void dot_unit(k_private const Group& g, k_shared const Sh* sh, k_shared const Table* table,
                   k_private const DotPlace<Apart<R>, C>& at,
                   k_private const typename C::Raw (&raw)[R], int before,
                   k_private float (&acc)[R][N]) {
  const int kColumns = Sh::kColumns;
  k_unroll for (int s = 0; s < C::kRuns; s++) {
    const int j = s / (C::kRuns / C::kSums);
    uint32_t words[R][4];
    k_unroll for (int r = 0; r < R; r++) C::words(raw[r], s, table, g.lane, words[r]);
    k_unroll for (int c = 0; c < N; c++) {
      const int column = c * kColumns + at.column[s] + before;
      const int word = (c * kColumns + at.plane[s] + before) / 4;
      const Word4 high = k_load4(sh->high + word), low = k_load4(sh->low + word);
      const float scale = sh->scale[column / 32];
      k_unroll for (int r = 0; r < R; r++) {
        int a = 0, b = 0;
        k_unroll for (int i = 0; i < 4; i++) {
          a = k_dot4(words[r][i], high.v[i], a);
          b = k_dot4(words[r][i], low.v[i], b);
        }
        const float sum = float((256 * a + b) * C::factor(raw[r], j));
        acc[r][c] = k_mad(C::scale(raw[r], j) * scale, sum, acc[r][c]);
        if (C::kHasMinus) {
          float least[C::kSums];
          C::least(raw[r], least);
          acc[r][c] = k_mad(-(C::least_scale(raw[r]) * least[j]), sh->sum[column / 16], acc[r][c]);
        }
      }
    }
  }
}

// In a band runs lie alike in all units: run s is column(0, s) further than the first, in whole
// blocks of inputs where it has a scale of its own.
template <int S, class C, int N, class Sh, class Table>
k_fn void dot_unit(k_private const Group& g, k_shared const Sh* sh, k_shared const Table* table,
                   k_private const DotPlace<Band<S>, C>& at,
                   k_private const typename C::Raw (&raw)[2], int before,
                   k_private float (&acc)[2][N]) {
  const int kEach = C::kRuns / C::kSums;
  const unsigned kColumns = Sh::kColumns, first = unsigned(at.column + before);
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

// Sums of a tile's rows: afterwards dot_total gives those that the thread owns, row or pair i; of a
// pair `up` says which. `turn` counts tiles; every thread of the group calls.
template <int R, int N, class Sh>
k_fn void dot_sum(Apart<R>, k_private const Group& g, k_shared Sh*, int,
                  k_private float (&acc)[R][N]) {
  k_unroll for (int r = 0; r < R; r++) k_unroll for (int c = 0; c < N; c++) acc[r][c] =
      g.simd_sum(acc[r][c]);
}
template <int R, int N, class Sh>
k_fn float dot_total(Apart<R>, k_private const Group&, k_shared const Sh*, int,
                     k_private const float (&acc)[R][N], int i, int c) {
  return acc[i][c];
}
template <int R, class Sh>
k_fn float pair_total(Apart<R>, k_private const Group&, k_shared const Sh*, int,
                      k_private const float (&acc)[R][1], int i, bool up) {
  return acc[up ? i + R / 2 : i][0];
}

// Where the sums of a band's 16 rows by one of its simds are.
template <int S, class Sh>
k_fn k_shared float* band_part(k_shared Sh* sh, int turn, int n, int c, int simd) {
  return sh->part + ((turn % 2 * n + c) * kDotSimds + simd) * 16;
}
template <int S, int N, class Sh>
k_fn void dot_sum(Band<S>, k_private const Group& g, k_shared Sh* sh, int turn,
                  k_private float (&acc)[2][N]) {
  k_unroll for (int r = 0; r < 2; r++) k_unroll for (int c = 0; c < N; c++) {
    float sum = acc[r][c];
    sum += g.simd_shuffle(sum, g.lane ^ 1u);
    sum += g.simd_shuffle(sum, g.lane ^ 2u);
    if (g.lane % 4 == 0) band_part<S>(sh, turn, N, c, int(g.simd))[int(g.lane) / 4 + 8 * r] = sum;
  }
  g.barrier();  // who writes this part again has passed the barrier of the tile between
}
template <int S, class Sh>
k_fn float band_total(k_shared Sh* sh, int turn, int n, int c, int band, int row) {
  float sum = 0;
  k_unroll for (int i = 0; i < S; i++) sum += band_part<S>(sh, turn, n, c, band * S + i)[row];
  return sum;
}
template <int S, int N, class Sh>
k_fn float dot_total(Band<S>, k_private const Group& g, k_shared Sh* sh, int turn,
                     k_private const float (&)[2][N], int, int c) {
  return band_total<S>(sh, turn, N, c, int(g.index) / 16, int(g.index) % 16);
}
template <int S, class Sh>
k_fn float pair_total(Band<S>, k_private const Group& g, k_shared Sh* sh, int turn,
                      k_private const float (&)[2][1], int, bool up) {
  return band_total<S>(sh, turn, 1, 0, int(g.index) / 8, int(g.index) % 8 + (up ? 8 : 0));
}

}  // namespace kernels
}  // namespace narwhal
