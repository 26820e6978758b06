// y = W x for few rows: every simd takes some outputs, its lanes take units of the weight rows.
//
// A lane adds its units in order and the lanes are summed as a tree, whatever the number of rows,
// so a row gets the same bits alone and in a batch. Weights are read once for up to kCols rows.
#pragma once

#include "kernels/views.h"
#include "kernels/weights.h"

namespace narwhal {
namespace kernels {

k_fn Matrix expert_of(k_private const Matrix& w, int e) {
  return {w.data + int64_t(e) * w.expert_stride, w.n_in, w.n_out, w.expert_stride};
}

// acc[r][c] += one unit of w[r] row[r] . x_c, where x_c = x + min(c, n - 1) * x_stride.
template <class C, int R, int N>
k_fn void multiply_unit(k_shared const typename C::Table* table,
                        k_private const typename C::Raw (&raw)[R], int u, k_device const float* x,
                        int64_t x_stride, int n, k_private float (&acc)[R][N]) {
  for (int s = 0; s < C::kRuns; s++) {
    Run run[R];
    for (int r = 0; r < R; r++) C::run(raw[r], s, table, run[r]);
    const int column = C::column(u, s);
    for (int c = 0; c < N; c++) {
      k_device const float* xc = x + (c < n ? c : n - 1) * x_stride + column;
      float part[R], sum = 0;
      for (int r = 0; r < R; r++) part[r] = 0;
      if (C::kRun == 1) {
        for (int r = 0; r < R; r++) part[r] = run[r].q[0] * xc[0];
      } else {
        for (int i = 0; i < C::kRun; i += 4) {
          const Word4 v = k_load4(xc + i);
          for (int j = 0; j < 4; j++) {
            const float xj = k_float(v.v[j]);
            for (int r = 0; r < R; r++) part[r] = k_mad(run[r].q[i + j], xj, part[r]);
            if (C::kHasMinus) sum += xj;
          }
        }
      }
      for (int r = 0; r < R; r++) {
        acc[r][c] = C::kScaled ? k_mad(run[r].scale, part[r], acc[r][c]) : acc[r][c] + part[r];
        if (C::kHasMinus) acc[r][c] = k_mad(-run[r].minus, sum, acc[r][c]);
      }
    }
  }
}

// Units of a row that a lane loads before it uses the first: what is on the way hides the memory's
// latency.
template <class C, int R>
struct Ahead {
  k_value int kWords = int(sizeof(typename C::Raw) / 4) * R;
  k_value int kUnits = kWords <= 4 ? 8 : kWords <= 10 ? 4 : kWords <= 20 ? 2 : 1;
};

// This lane's units of the rows, where the lanes of several simds share them: units first,
// first + step ..
template <class C, int R, int N>
k_fn void accumulate(k_shared const typename C::Table* table, k_private const Planes (&rows)[R],
                     int units, int first, int step, k_device const float* x, int64_t x_stride,
                     int n, k_private float (&acc)[R][N]) {
  const int kUnits = Ahead<C, R>::kUnits;
  for (int u = first; u < units; u += kUnits * step) {
    typename C::Raw raw[kUnits][R];
    k_unroll for (int i = 0; i < kUnits; i++) if (u + i * step < units)
        k_unroll for (int r = 0; r < R; r++) C::load(rows[r], u + i * step, raw[i][r]);
    k_unroll for (int i = 0; i < kUnits; i++) if (u + i * step < units)
        multiply_unit<C, R, N>(table, raw[i], u + i * step, x, x_stride, n, acc);
  }
}

k_value int kMaxProducts = 8;

// Matrices whose products one launch computes, each cut into tiles of outputs.
struct ProductList {
  Matrix matrices[kMaxProducts];
  k_device float* outputs[kMaxProducts];  // [n][n_out] each
  int n_tiles[kMaxProducts];              // 0: not there

  k_call int all_tiles() k_const {
    int all = 0;
    k_unroll for (int i = 0; i < kMaxProducts; i++) all += n_tiles[i];
    return all;
  }

  // The matrix of a tile and the tile's number in it. Without an index that varies: the arguments
  // stay where they are.
  k_call int find(int tile, k_private Matrix* w) k_const {
    int before = 0, first = 0;
    *w = matrices[0];
    k_unroll for (int i = 1; i < kMaxProducts; i++) {
      before += n_tiles[i - 1];
      if (tile >= before && n_tiles[i] > 0) {
        *w = matrices[i];
        first = before;
      }
    }
    return tile - first;
  }
  k_call k_device float* output(int tile) k_const {
    k_device float* y = outputs[0];
    int before = 0;
    k_unroll for (int i = 1; i < kMaxProducts; i++) {
      before += n_tiles[i - 1];
      if (tile >= before && n_tiles[i] > 0) y = outputs[i];
    }
    return y;
  }
};

// Several matrices of one type and width take the same x, or one matrix is cut: its outputs into
// n_groups equal parts, of which part i sees inputs [i * n_in, (i + 1) * n_in) of x.
template <class C, int kCols>
struct MatVec {
  k_value int kThreads = 256, kSimds = 8, kRows = kCols;
  k_value int kEach = 2;          // outputs of a simd, or of a group whose simds share them
  k_value int kFewOutputs = 512;  // of a matrix: then a group's simds share long rows
  struct Shared {
    typename C::Table table;
    float part[kSimds * kEach * kCols];
  };
  ProductList list;
  int n_groups, n;          // n rows of x
  int add;                  // y += instead of y =
  k_device const float* x;  // [n][n_groups * n_in]

  static k_fn_member bool shares(int64_t n_in, int64_t n_out) {
    return n_out <= kFewOutputs && n_in / C::kUnit >= kThreads;
  }
  // Of a tile, in a part of a matrix.
  static k_fn_member int outputs(int64_t n_in, int64_t n_out) {
    return shares(n_in, n_out) ? int(kEach) : kSimds * kEach;
  }

  // Sums of the simds in order, for all of them.
  k_call void add_up(k_private const Group& g, k_shared Shared* sh,
                     k_private float (&sum)[kEach][kCols]) k_const {
    const int kSums = kEach * kCols;
    for (int i = 0; i < kSums; i++)
      if (g.lane == 0) sh->part[g.simd * kSums + i] = sum[i / kCols][i % kCols];
    g.barrier();
    for (int i = 0; i < kSums; i++) {
      float all = 0;
      for (int simd = 0; simd < kSimds; simd++) all += sh->part[simd * kSums + i];
      sum[i / kCols][i % kCols] = all;
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    // Divisions are slow: most launches have one part and few rows.
    const int all = list.all_tiles(), turn = n <= kCols ? 0 : int(g.group) / all;
    const int one = int(g.group) - turn * all, c0 = turn * kCols;
    Matrix w;
    const int tile = list.find(one, &w);
    k_device float* y = list.output(one);
    const int per_part = n_groups == 1 ? int(w.n_out) : int(w.n_out) / n_groups;
    const bool shared = shares(w.n_in, per_part);
    const int outputs_each = outputs(w.n_in, per_part);
    int part = 0, first = tile * outputs_each;
    if (n_groups > 1) {
      const int tiles = (per_part + outputs_each - 1) / outputs_each;
      part = tile / tiles;
      first -= part * tiles * outputs_each;
    }
    if (!shared) first += int(g.simd) * kEach;
    Planes rows[kEach];
    for (int r = 0; r < kEach; r++) {
      const Planes row = planes_of<C>(w, part * per_part + min_int(first + r, per_part - 1));
      rows[r] = row;
    }
    const int64_t stride = w.n_in * n_groups;
    float sum[kEach][kCols];
    for (int r = 0; r < kEach; r++)
      for (int c = 0; c < kCols; c++) sum[r][c] = 0;
    const int count = min_int(kCols, n - c0);
    accumulate<C, kEach, kCols>(&sh->table, rows, int(w.n_in) / C::kUnit,
                                shared ? int(g.index) : int(g.lane), shared ? kThreads : kSimd,
                                x + c0 * stride + part * w.n_in, stride, count, sum);
    for (int r = 0; r < kEach; r++)
      for (int c = 0; c < kCols; c++) sum[r][c] = g.simd_sum(sum[r][c]);
    if (shared) add_up(g, sh, sum);
    if (g.lane != 0 || (shared && g.simd > 0)) return;
    for (int r = 0; r < kEach && first + r < per_part; r++)
      for (int c = 0; c < count; c++) {
        k_device float* out = y + (c0 + c) * w.n_out + part * per_part + first + r;
        *out = add ? *out + sum[r][c] : sum[r][c];
      }
  }
};

// All values of row token[r], n_hc times over: X [n][n_hc][n_in].
template <class C>
struct Embed {
  k_value int kThreads = 256;
  struct Shared {
    typename C::Table table;
  };
  Rows b;
  Matrix table;
  int n_hc;
  k_device float* X;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    const int r = int(g.group), units = int(table.n_in) / C::kUnit;
    const Planes row = planes_of<C>(table, b.token[r]);
    for (int u = int(g.index); u < units; u += int(g.size)) {
      typename C::Raw raw;
      C::load(row, u, raw);
      for (int s = 0; s < C::kRuns; s++) {
        Run run;
        C::run(raw, s, &sh->table, run);
        for (int i = 0; i < C::kRun; i++) {
          const float value = C::kScaled ? run.scale * run.q[i] - run.minus : run.q[i];
          for (int h = 0; h < n_hc; h++)
            X[(int64_t(r) * n_hc + h) * table.n_in + C::column(u, s) + i] = value;
        }
      }
    }
  }
};

// s[r] += ape[position mod ratio], in place; s [n][n_in of ape].
template <class C>
struct AddApe {
  k_value int kThreads = 256;
  struct Shared {
    typename C::Table table;
  };
  Rows b;
  Matrix ape;
  int ratio;
  k_device float* s;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    const int r = int(g.group), units = int(ape.n_in) / C::kUnit;
    const Planes row = planes_of<C>(ape, b.position[r] % ratio);
    for (int u = int(g.index); u < units; u += int(g.size)) {
      typename C::Raw raw;
      C::load(row, u, raw);
      for (int p = 0; p < C::kRuns; p++) {
        Run run;
        C::run(raw, p, &sh->table, run);
        for (int i = 0; i < C::kRun; i++) {
          const float value = C::kScaled ? run.scale * run.q[i] - run.minus : run.q[i];
          s[int64_t(r) * ape.n_in + C::column(u, p) + i] += value;
        }
      }
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
