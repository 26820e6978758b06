// y = W x by integer products (dot.h) for matrices of very many outputs and two-bit weights, whose
// units cost less than what a tile costs besides: here every simd has rows of its own, a group is
// as large as a multiprocessor, and what is done once is done for all of its simds.
#pragma once

#include "kernels/dot.h"

namespace narwhal {
namespace kernels {

// Rows of a lane, by rows of inputs. IQ2_XXS reads shared memory most: with four rows a lane
// takes inputs half as often, for which the others lack registers.
template <class C, int N>
struct TallBand : Band<1, 2> {};
template <>
struct TallBand<CodecIQ2_XXS, 1> : Band<1, 4> {};

template <class C, int N>
struct TallVec {
  struct Team : TallBand<C, N> {
    k_value int kThreads = 512;
  };
  k_value int kThreads = Team::kThreads, kSimds = kThreads / kSimd, kResident = 1;
  k_value int R = Team::kRows;
  k_value bool kBeginsEarly = true;
  typedef DotShared<Team, C, N> Shared;
  k_value int kUnits = DotBatch<Team, C, Shared>::kUnits, kBatch = kUnits * Team::kLanes;
  k_value int kTurnColumns = 2 * kBatch * C::kUnit;  // rows have whole turns
  typedef typename C::Raw Batch[kUnits][R];
  Matrix w;
  int n, add;
  k_device const float* x;  // [n][n_in]
  k_device float* y;        // [n][n_out]
  unsigned each, longer;    // bands of a group; groups with one more

  static k_fn_member int bands(int64_t n_out) {
    return int((n_out + Team::kBandRows - 1) / Team::kBandRows);
  }

  k_call void find(k_private const Group& g, int band, k_private Planes (&rows)[R]) k_const {
    const int first = band * Team::kBandRows + int(g.lane) / 4;
    k_unroll for (int r = 0; r < R; r++) {
      const Planes row = planes_of<C>(w, min_int(first + 8 * r, int(w.n_out) - 1));
      const Planes at = lane_planes<Team, C>(g, row, int(w.n_in) / C::kUnit);
      rows[r] = at;
    }
  }

  // The batch `after` units behind the rows' places.
  k_call void load(k_private const Planes (&rows)[R], int after, k_private Batch& batch) k_const {
    k_unroll for (int i = 0; i < kUnits; i++) k_unroll for (int r = 0; r < R; r++)
        C::load(rows[r], after + i * Team::kLanes, batch[i][r]);
  }

  // A batch with the inputs from `columns` behind `in` on.
  k_call void multiply(k_private const Group& g, k_shared const Shared* sh,
                       k_private const Batch& batch, k_private const UnitInputs& in, int columns,
                       k_private float (&acc)[R][N]) k_const {
    k_unroll for (int i = 0; i < kUnits; i++) {
      const UnitInputs at = skip_columns<C>(in, columns + i * Team::kLanes * C::kUnit);
      dot_unit<C, Shared::kColumns>(g, &sh->table, at, batch[i], acc);
    }
  }

  // A turn: two batches, between which nothing moves. Asks for the first of the next turn if it is
  // `more`, else of band `after` unless that is negative; there `rows` are then.
  k_call void turn(k_private const Group& g, k_shared const Shared* sh, k_private Batch& batch,
                   k_private Planes (&rows)[R], bool more, int after,
                   k_private const UnitInputs& in, int columns,
                   k_private float (&acc)[R][N]) k_const {
    Batch coming;
    if (dot_after<C>(0, batch) == 0) load(rows, kBatch, coming);
    multiply(g, sh, batch, in, columns, acc);
    if (dot_after<C>(int(more), coming, acc[0][0]) != 0) {
      k_unroll for (int r = 0; r < R; r++) {
        const Planes at = skip_units<C>(rows[r], 2 * kBatch);
        rows[r] = at;
      }
      load(rows, 0, batch);
    } else if (after >= 0) {
      find(g, after, rows);
      load(rows, 0, batch);
    }
    multiply(g, sh, coming, in, columns + kBatch * C::kUnit, acc);
  }

  // Of the four lanes of a row, lane i stores row i.
  k_call void store(k_private const Group& g, int band, int c0,
                    k_private const float (&acc)[R][N]) k_const {
    const int i = int(g.lane) % 4, row = band * Team::kBandRows + int(g.lane) / 4 + 8 * i;
    k_unroll for (int c = 0; c < N; c++) {
      float mine = 0;
      k_unroll for (int r = 0; r < R; r++) {
        const float sum = row_sum(g, acc[r][c]);
        if (r == i) mine = sum;
      }
      if (c0 + c >= n || i >= R || row >= int(w.n_out)) continue;
      k_device float* out = y + (c0 + c) * w.n_out + row;
      *out = add ? *out + mine : mine;
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int begin = stretch_begin(g.group, each, longer);
    const int end = begin + int(each) + int(g.group < longer), mine = begin + int(g.simd);
    const int n_in = int(w.n_in), kColumns = Shared::kColumns;
    Planes rows[R];
    find(g, min_int(mine, end - 1), rows);
    Batch batch;
    load(rows, 0, batch);
    load_table(g, &sh->table);
    const UnitInputs inputs = unit_inputs<C>(g, sh, unsigned(C::column(Team::slot(g), 0)));
    for (int c0 = 0; c0 < n; c0 += N) {
      for (int first = begin; first < end; first += kSimds) {
        const int band = first + int(g.simd);
        const int after = band + kSimds < end ? band + kSimds : c0 + N < n ? mine : -1;
        float acc[R][N];
        k_unroll for (int r = 0; r < R; r++) k_unroll for (int c = 0; c < N; c++) acc[r][c] = 0;
        if (first + kSimds >= end && c0 + N >= n) {  // the next launch's groups wait for room
          g.await_results();
          g.release_next();
        }
        for (int piece = 0; piece < n_in; piece += kColumns) {
          const int count = min_int(kColumns, n_in - piece);
          if (first == begin || n_in > kColumns)
            dot_inputs<N>(g, sh, x + int64_t(c0) * n_in, n_in, min_int(N, n - c0), piece, count);
          if (band >= end) continue;
          for (int at = 0; at < count; at += kTurnColumns)
            turn(g, sh, batch, rows, piece + at + kTurnColumns < n_in, after, inputs, at, acc);
        }
        if (band < end) store(g, band, c0, acc);
      }
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
