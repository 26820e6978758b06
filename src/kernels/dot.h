// y = W x for few rows with integer products: weights whose codes fit signed bytes, inputs rounded
// to 16 bits per 32 columns (quant: largest magnitude / 32767, nearest even), as two planes of
// bytes. A product is then two dot products of bytes a word of codes, exact until the scales come
// in; rounding the inputs moves an output by about 2e-5 of its size.
//
// A group brings its inputs into shared memory; a simd takes R outputs, its lanes take units of the
// weight rows. A lane adds its units in order and the lanes are summed as a tree, whatever R and
// the number of rows, so a row gets the same bits alone and in a batch.
#pragma once

#include "kernels/experts.h"

namespace narwhal {
namespace kernels {

k_value int kDotThreads = 256, kDotSimds = 8;
k_value int kDotMaxUsed = 32;  // experts of a token

// N rows of inputs, kColumns of them at a time: a multiple of every codec's 32 units.
template <class C, int N>
struct DotShared {
  k_value int kColumns = N == 1 ? 8192 : 2048, kHasSums = C::kHasMinus, kTwist = C::kTwist;
  uint32_t high[N * kColumns / 4], low[N * kColumns / 4];
  float scale[N * kColumns / 32];
  float sum[C::kHasMinus ? N * kColumns / 16 : 1];
  typename C::Table table;
  int32_t experts[kDotMaxUsed];
};

// Where a column lies in its plane. Lanes read runs of 16 that are 16 to 64 columns apart; the runs
// of 128 columns are exchanged so that eight neighbouring lanes meet all banks.
template <class S>
k_fn int dot_place(int column) {
  const int run = column / 16;
  return (run ^ ((run / 8) << S::kTwist & 7)) * 16 + column % 16;
}

// Rounds four columns of row item / items of the inputs, whose block lies with its seven
// neighbours.
template <int N, class S>
k_fn void dot_round(k_private const Group& g, k_shared S* sh, int item, int items,
                    k_private const Word4& v) {
  const bool there = item < N * items;  // a multiple of the eight lanes of a block
  const int first = item / items * S::kColumns, column = item % items * 4;
  const int at = first + column;
  float top = 0;
  k_unroll for (int i = 0; i < 4; i++) top = max_float(top, k_abs(k_float(v.v[i])));
  k_unroll for (unsigned m = 4; m > 0; m /= 2) top =
      max_float(top, g.simd_shuffle(top, g.lane ^ m));
  const float inverse = top > 0 ? 32767.0f / top : 0.0f, scale = top / 32767.0f;
  uint32_t high = 0, low = 0, sum = 0;
  k_unroll for (int i = 0; i < 4; i++) {
    const uint32_t q = uint32_t(k_round(k_float(v.v[i]) * inverse));
    high |= (q >> 8 & 255u) << 8 * i;
    low |= (q & 255u) << 8 * i;
    sum += q;
  }
  if (there) {
    sh->high[(first + dot_place<S>(column)) / 4] = high;
    sh->low[(first + dot_place<S>(column)) / 4] = low;
    if (g.lane % 8 == 0) sh->scale[at / 32] = scale;
  }
  if (S::kHasSums) {
    k_unroll for (unsigned m = 2; m > 0; m /= 2) sum += g.simd_shuffle(sum, g.lane ^ m);
    if (there && g.lane % 4 == 0) sh->sum[at / 16] = float(int(sum)) * scale;
  }
}

// x[c][begin .. begin + count) of n rows, count <= kColumns a multiple of 32; rows from n on repeat
// the last. Begins and ends with barriers.
template <int N, class S>
k_fn void dot_inputs(k_private const Group& g, k_shared S* sh, k_device const float* x,
                     int64_t x_stride, int n, int begin, int count) {
  g.barrier();
  const int items = count / 4;  // of a row
  const int kBatch = 4;         // loads on the way at once
  for (int first = int(g.simd) * kSimd; first < N * items; first += kBatch * kDotThreads) {
    Word4 v[kBatch];
    k_unroll for (int i = 0; i < kBatch; i++) {
      const int item = min_int(first + i * kDotThreads + int(g.lane), N * items - 1);
      const Word4 four =
          k_load4(x + min_int(item / items, n - 1) * x_stride + begin + item % items * 4);
      k_unroll for (int j = 0; j < 4; j++) v[i].v[j] = four.v[j];
    }
    k_unroll for (int i = 0; i < kBatch; i++) if (first + i * kDotThreads < N * items)
        dot_round<N>(g, sh, first + i * kDotThreads + int(g.lane), items, v[i]);
  }
  g.barrier();
}

// acc[r][c] += codes of one unit . x_c. Its columns lie `before` further on in shared memory;
// `copy` of a codec's table is the lane's.
template <class C, int R, int N, class S>
k_fn void dot_unit(k_shared const S* sh, k_shared const typename C::Table* table,
                   k_private const typename C::Raw (&raw)[R], int unit, int before, unsigned copy,
                   k_private float (&acc)[R][N]) {
  const int kColumns = S::kColumns;
  k_unroll for (int s = 0; s < C::kRuns; s++) {
    Codes codes[R];
    k_unroll for (int r = 0; r < R; r++) C::codes(raw[r], s, table, copy, codes[r]);
    const int column = C::column(unit, s) + before, place = dot_place<S>(column);
    k_unroll for (int c = 0; c < N; c++) {
      const int at = c * kColumns + column, word = (c * kColumns + place) / 4;
      const Word4 high = k_load4(sh->high + word), low = k_load4(sh->low + word);
      const float scale = sh->scale[at / 32];
      k_unroll for (int r = 0; r < R; r++) {
        int a = 0, b = 0;
        k_unroll for (int i = 0; i < 4; i++) {
          a = k_dot4(codes[r].q[i], high.v[i], a);
          b = k_dot4u(codes[r].q[i], low.v[i], b);
        }
        acc[r][c] = k_mad(codes[r].scale, float(256 * a + b) * scale, acc[r][c]);
        if (C::kHasMinus) acc[r][c] = k_mad(-codes[r].minus, sh->sum[at / 16], acc[r][c]);
      }
    }
  }
}

// This lane's part of rows row[r] of w[r] over columns [begin, begin + count), which lie in shared
// memory.
template <class C, int R, int N, class S>
k_fn void dot_rows(k_private const Group& g, k_shared const S* sh,
                   k_shared const typename C::Table* table, k_private const Matrix (&w)[R],
                   k_private const int64_t (&row)[R], int begin, int count,
                   k_private float (&acc)[R][N]) {
  const int kAhead = Ahead<C, R>::kUnits;
  const int last = (begin + count) / C::kUnit;
  for (int u = begin / C::kUnit + int(g.lane); u < last; u += kAhead * kSimd) {
    typename C::Raw raw[kAhead][R];
    k_unroll for (int i = 0; i < kAhead; i++) if (u + i * kSimd < last)
        k_unroll for (int r = 0; r < R; r++) C::load(w[r], row[r], u + i * kSimd, raw[i][r]);
    k_unroll for (int i = 0; i < kAhead; i++) if (u + i * kSimd < last)
        dot_unit<C, R, N>(sh, table, raw[i], u + i * kSimd, -begin, g.lane % kTableCopies, acc);
  }
}

// As MatVec, with `tiles` tiles after one another in a group: inputs are rounded once for all that
// see the same ones.
template <class C, int N, int R>
struct DotVec {
  k_value int kThreads = kDotThreads, kResident = 2, kRows = N,
              kOutputs = kDotSimds * R;  // of a tile
  typedef DotShared<C, N> Shared;
  ProductList list;
  int n_groups, n;
  int add;
  k_device const float* x;
  int tiles;

  // One tile of a matrix. `held` names the inputs in shared memory: rows and part.
  k_call void one_tile(k_private const Group& g, k_shared Shared* sh, k_private const Matrix& m,
                       k_device float* y, int tile, int c0, k_private int64_t* held) k_const {
    const int64_t per_group = m.n_out / n_groups, stride = m.n_in * n_groups;
    const int across = int((per_group + kOutputs - 1) / kOutputs), part = tile / across;
    const int64_t o = int64_t(tile % across) * kOutputs + g.simd * R;
    const int count = min_int(N, n - c0);
    Matrix w[R];
    int64_t row[R];
    float acc[R][N];
    k_unroll for (int r = 0; r < R; r++) {
      w[r] = m;
      row[r] = part * per_group + (o + r < per_group ? o + r : per_group - 1);
      k_unroll for (int c = 0; c < N; c++) acc[r][c] = 0;
    }
    const int64_t inputs = int64_t(c0) * n_groups + part;
    const bool whole = m.n_in <= Shared::kColumns;
    for (int k0 = 0; k0 < int(m.n_in); k0 += Shared::kColumns) {
      const int columns = min_int(Shared::kColumns, int(m.n_in) - k0);
      if (!whole || *held != inputs)
        dot_inputs<N>(g, sh, x + c0 * stride + part * m.n_in, stride, count, k0, columns);
      dot_rows<C, R, N>(g, sh, &sh->table, w, row, k0, columns, acc);
    }
    *held = inputs;
    k_unroll for (int r = 0; r < R; r++) k_unroll for (int c = 0; c < N; c++) {
      const float sum = g.simd_sum(acc[r][c]);
      if (c >= count || o + r >= per_group || g.lane != 0) continue;
      k_device float* out = y + (c0 + c) * m.n_out + row[r];
      *out = add ? *out + sum : sum;
    }
  }

  k_call void ahead(k_private const Group& g) k_const {
    const int end = min_int((int(g.group) + 1) * tiles, list.all_tiles());
    for (int at = int(g.group) * tiles; at < end; at++) {
      Matrix w;
      const int tile = list.find(at, &w);
      const int64_t per_group = w.n_out / n_groups, across = (per_group + kOutputs - 1) / kOutputs;
      const int64_t o = tile % across * kOutputs, rest = per_group - o;
      prefetch_rows<C>(g, w, tile / across * per_group + o, rest < kOutputs ? rest : kOutputs);
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    const int all = list.all_tiles();
    const int end = min_int((int(g.group) + 1) * tiles, all * ((n + N - 1) / N));
    int64_t held = -1;
    for (int at = int(g.group) * tiles; at < end; at++) {
      Matrix w;
      const int tile = list.find(at % all, &w);
      one_tile(g, sh, w, list.output(at % all), tile, at / all * N, &held);
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
