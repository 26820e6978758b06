// y = W x for few rows with integer products: weights whose codes fit signed bytes, inputs rounded
// to 16 bits per 32 columns (quant: largest magnitude / 32767, nearest even), as two planes of
// bytes. A product is then two dot products of bytes a word of codes, exact until the scales come
// in; rounding the inputs moves an output by about 2e-5 of its size.
//
// A group brings its inputs into shared memory; a simd takes R outputs, its lanes take units of the
// weight rows, a batch of which is always on its way: the first while inputs are rounded, and that
// of the next tile while one is summed. A lane adds its units in order and the lanes are summed as
// a tree, whatever R and the number of rows, so a row gets the same bits alone and in a batch.
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

// Where a run of 16 columns lies in its plane. Lanes read runs that are 16 to 64 columns apart;
// those of 128 columns are exchanged so that eight neighbouring lanes meet all banks. Columns that
// are a multiple of 512 apart, as those of a lane are, lie as far apart.
template <class S>
k_fn int dot_place(int column) {
  const int run = column / 16;
  return (run ^ (run / 8 & 3) << S::kTwist) * 16;
}

// Rounds run item of the inputs, 16 columns of a row of `items` runs; a block of 32 lies on two
// neighbouring lanes.
template <int N, class S>
k_fn void dot_round(k_private const Group& g, k_shared S* sh, int item, int items,
                    k_private const Word4 (&v)[4]) {
  uint32_t bits = 0;
  k_unroll for (int i = 0; i < 16; i++) bits = max_uint(bits, v[i / 4].v[i % 4] & 0x7fffffffu);
  bits = max_uint(bits, g.simd_shuffle(bits, g.lane ^ 1u));
  const float top = k_float(bits);
  const float inverse = top > 0 ? 32767.0f / top : 0.0f, scale = top / 32767.0f;
  Word4 high, low;
  uint32_t sum = 0;
  k_unroll for (int i = 0; i < 4; i++) {
    uint32_t q[4];
    k_unroll for (int j = 0; j < 4; j++) {
      q[j] = uint32_t(k_round(k_float(v[i].v[j]) * inverse));
      sum += q[j];
    }
    const uint32_t a = k_permute(q[0], q[1], 0x5140u), b = k_permute(q[2], q[3], 0x5140u);
    low.v[i] = k_permute(a, b, 0x5410u);
    high.v[i] = k_permute(a, b, 0x7632u);
  }
  if (item >= N * items) return;
  const int row = N == 1 ? 0 : item / items, first = row * S::kColumns;
  const int column = (item - row * items) * 16;
  const int place = first + dot_place<S>(column), at = first + column;
  k_store4(sh->high + place / 4, high);
  k_store4(sh->low + place / 4, low);
  if (item % 2 == 0) sh->scale[at / 32] = scale;
  if (S::kHasSums) sh->sum[at / 16] = float(int(sum)) * scale;
}

// x[c][begin .. begin + count) of n rows, count <= kColumns a multiple of 32; rows from n on repeat
// the last. Begins and ends with barriers.
template <int N, class S>
k_fn void dot_inputs(k_private const Group& g, k_shared S* sh, k_device const float* x,
                     int64_t x_stride, int n, int begin, int count) {
  g.barrier();
  const int items = count / 16;  // of a row
  const int kBatch = 2;          // runs of a thread on their way at once
  for (int first = int(g.index); first - int(g.lane) < N * items; first += kBatch * kDotThreads) {
    Word4 v[kBatch][4];
    k_unroll for (int i = 0; i < kBatch; i++) {
      const int item = min_int(first + i * kDotThreads, N * items - 1);
      const int row = N == 1 ? 0 : item / items;
      k_device const float* from =
          x + (N == 1 ? 0 : min_int(row, n - 1) * x_stride) + begin + (item - row * items) * 16;
      k_unroll for (int j = 0; j < 4; j++) {
        const Word4 four = k_load4(from + 4 * j);
        k_unroll for (int k = 0; k < 4; k++) v[i][j].v[k] = four.v[k];
      }
    }
    k_unroll for (int i = 0; i < kBatch; i++) if (first - int(g.lane) + i * kDotThreads < N * items)
        dot_round<N>(g, sh, first + i * kDotThreads, items, v[i]);
  }
  g.barrier();
}

// Where the runs of a lane's first unit lie in shared memory; its other units are multiples of
// kSimd further.
template <class C>
struct DotPlace {
  int plane[C::kRuns], column[C::kRuns];
};
template <class C, class S>
k_fn void dot_places(k_private const Group& g, k_private DotPlace<C>& at) {
  k_unroll for (int s = 0; s < C::kRuns; s++) {
    at.column[s] = C::column(int(g.lane), s);
    at.plane[s] = dot_place<S>(at.column[s]);
  }
}

// acc[r][c] += codes of one unit . x_c, of the unit `before` columns after the lane's first one.
// `copy` of a codec's table is the lane's.
template <class C, int R, int N, class S>
k_fn void dot_unit(k_shared const S* sh, k_shared const typename C::Table* table,
                   k_private const DotPlace<C>& at, k_private const typename C::Raw (&raw)[R],
                   int before, unsigned copy, k_private float (&acc)[R][N]) {
  const int kColumns = S::kColumns;
  k_unroll for (int s = 0; s < C::kRuns; s++) {
    Codes codes[R];
    k_unroll for (int r = 0; r < R; r++) C::codes(raw[r], s, table, copy, codes[r]);
    k_unroll for (int c = 0; c < N; c++) {
      const int column = c * kColumns + at.column[s] + before;
      const int word = (c * kColumns + at.plane[s] + before) / 4;
      const Word4 high = k_load4(sh->high + word), low = k_load4(sh->low + word);
      const float scale = sh->scale[column / 32];
      k_unroll for (int r = 0; r < R; r++) {
        int a = 0, b = 0;
        k_unroll for (int i = 0; i < 4; i++) {
          a = k_dot4(codes[r].q[i], high.v[i], a);
          b = k_dot4u(codes[r].q[i], low.v[i], b);
        }
        acc[r][c] = k_mad(codes[r].scale, float(256 * a + b) * scale, acc[r][c]);
        if (C::kHasMinus) acc[r][c] = k_mad(-codes[r].minus, sh->sum[column / 16], acc[r][c]);
      }
    }
  }
}

// Units of each of R rows that a lane asks for at a time: together not more columns than shared
// memory holds of each of many rows.
template <class C, int R>
struct DotBatch {
  k_value int kWanted = (Ahead<C, R>::kUnits + 1) / 2;
  k_value int kMost = DotShared<C, 2>::kColumns / (kSimd * C::kUnit);
  k_value int kUnits = kWanted < kMost ? kWanted : kMost, kStep = kUnits * kSimd;
};

// Asks for units first + lane, first + 32 + lane .. of rows with `units` of them; beyond, for the
// last: no branch holds loads back.
template <class C, int R>
k_fn void dot_load(k_private const Group& g, k_private const Planes (&rows)[R], int first,
                   int units, k_private typename C::Raw (&batch)[DotBatch<C, R>::kUnits][R]) {
  const int lane = int(g.lane);
  if (first + DotBatch<C, R>::kStep <= units) {  // addresses a constant apart
    k_unroll for (int i = 0; i < DotBatch<C, R>::kUnits; i++) k_unroll for (int r = 0; r < R; r++)
        C::load(rows[r], first + lane + i * kSimd, batch[i][r]);
  } else {
    k_unroll for (int i = 0; i < DotBatch<C, R>::kUnits; i++) k_unroll for (int r = 0; r < R; r++)
        C::load(rows[r], min_int(first + lane + i * kSimd, units - 1), batch[i][r]);
  }
}

template <class T, int kUnits, int R>
k_fn void dot_copy(k_private const T (&from)[kUnits][R], k_private T (&to)[kUnits][R]) {
  k_unroll for (int i = 0; i < kUnits; i++) k_unroll for (int r = 0; r < R; r++) to[i][r] =
      from[i][r];
}

// Rows of n_in columns times N inputs, part of a group: this lane's share is added to acc. `batch`
// holds the rows' first units and, afterwards, those of `next`, the rows that come after (`more`).
// x null: the inputs are in shared memory.
template <class C, int R, int N, class S>
k_fn void dot_rows(k_private const Group& g, k_shared S* sh,
                   k_shared const typename C::Table* table,
                   k_private typename C::Raw (&batch)[DotBatch<C, R>::kUnits][R],
                   k_private const Planes (&rows)[R], k_private const Planes (&next)[R], bool more,
                   int n_in, k_device const float* x, int64_t x_stride, int n,
                   k_private float (&acc)[R][N]) {
  const int kUnits = DotBatch<C, R>::kUnits, kStep = DotBatch<C, R>::kStep;
  static_assert(S::kColumns % (DotBatch<C, R>::kStep * C::kUnit) == 0, "batches of whole pieces");
  const int units = n_in / C::kUnit, lane = int(g.lane);
  DotPlace<C> at;
  dot_places<C, S>(g, at);
  int begin = 0;  // first column in shared memory
  for (int u = 0; u < units; u += kStep) {
    if (x && u * C::kUnit % S::kColumns == 0) {
      begin = u * C::kUnit;
      dot_inputs<N>(g, sh, x, x_stride, n, begin, min_int(S::kColumns, n_in - begin));
    }
    typename C::Raw coming[kUnits][R];
    dot_copy(batch, coming);
    if (u + kStep < units)
      dot_load<C, R>(g, rows, u + kStep, units, coming);
    else if (more)
      dot_load<C, R>(g, next, 0, units, coming);
    k_unroll for (int i = 0; i < kUnits; i++) if (u + lane + i * kSimd < units) dot_unit<C, R, N>(
        sh, table, at, batch[i], (u + i * kSimd) * C::kUnit - begin, g.lane % kTableCopies, acc);
    dot_copy(coming, batch);
  }
}

// As MatVec, with a stretch of tiles in a group: inputs are rounded once for all that see the same
// ones.
template <class C, int N, int R>
struct DotVec {
  k_value int kThreads = kDotThreads, kResident = 2, kRows = N,
              kOutputs = kDotSimds * R;  // of a tile
  typedef DotShared<C, N> Shared;
  ProductList list;
  int n_groups, n;
  int add;
  k_device const float* x;
  unsigned n_stretches;

  // Where a simd's rows of a tile belong.
  struct Tile {
    int first, count, n_out;  // outputs; those of the part of the matrix; of the matrix
    int n_in, part, c0;       // c0: first of the rows of x
    k_device float* y;
  };

  static k_fn_member int outputs(int64_t, int64_t) { return kOutputs; }

  k_call void find(k_private const Group& g, int at, k_private Tile& t,
                   k_private Planes (&rows)[R]) k_const {
    const int all = list.all_tiles(), turn = n <= N ? 0 : at / all, one = at - turn * all;
    Matrix w;
    const int tile = list.find(one, &w), n_out = int(w.n_out);
    int per_part = n_out, across = 0;
    t.part = 0;
    if (n_groups > 1) {  // divisions are slow
      per_part = n_out / n_groups;
      across = (per_part + kOutputs - 1) / kOutputs;
      t.part = tile / across;
    }
    const int o = (tile - t.part * across) * kOutputs + int(g.simd) * R;
    k_unroll for (int r = 0; r < R; r++) {
      const Planes row = planes_of<C>(w, t.part * per_part + min_int(o + r, per_part - 1));
      rows[r] = row;
    }
    t.first = t.part * per_part + o;
    t.count = per_part - o;
    t.n_out = n_out;
    t.n_in = int(w.n_in);
    t.c0 = turn * N;
    t.y = list.output(one);
  }

  k_call void store(k_private const Group& g, k_private const Tile& t,
                    k_private const float (&acc)[R][N]) k_const {
    k_unroll for (int r = 0; r < R; r++) k_unroll for (int c = 0; c < N; c++) {
      const float sum = g.simd_sum(acc[r][c]);
      if (c >= n - t.c0 || r >= t.count || g.lane != 0) continue;
      k_device float* out = t.y + int64_t(t.c0 + c) * t.n_out + t.first + r;
      *out = add ? *out + sum : sum;
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const unsigned all = unsigned(list.all_tiles() * ((n + N - 1) / N)), each = all / n_stretches;
    const unsigned longer = all - each * n_stretches;  // stretches with one more
    const int begin = int(g.group * each + (g.group < longer ? g.group : longer));
    const int end = begin + int(each) + int(g.group < longer);
    Tile t, coming;
    Planes rows[R], next[R];
    find(g, begin, t, rows);
    typename C::Raw batch[DotBatch<C, R>::kUnits][R];
    dot_load<C, R>(g, rows, 0, t.n_in / C::kUnit, batch);
    load_table(g, &sh->table);
    int held_part = -1, held_c0 = -1;
    for (int at = begin; at < end; at++) {
      find(g, min_int(at + 1, end - 1), coming, next);
      const bool held = t.n_in <= Shared::kColumns && held_part == t.part && held_c0 == t.c0;
      const int64_t stride = int64_t(t.n_in) * n_groups;
      float acc[R][N];
      k_unroll for (int r = 0; r < R; r++) k_unroll for (int c = 0; c < N; c++) acc[r][c] = 0;
      dot_rows<C, R, N>(g, sh, &sh->table, batch, rows, next, at + 1 < end, t.n_in,
                        held ? nullptr : x + t.c0 * stride + int64_t(t.part) * t.n_in, stride,
                        min_int(N, n - t.c0), acc);
      store(g, t, acc);
      held_part = t.part;
      held_c0 = t.c0;
      t = coming;
      k_unroll for (int r = 0; r < R; r++) rows[r] = next[r];
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
