// y = W x for few rows with integer products: weights whose codes fit signed bytes, inputs rounded
// to 16 bits per 32 columns (quant: largest magnitude / 32639, nearest even), as two planes of
// signed bytes, 256 high + low. Products of bytes are summed exactly until the scales come in;
// rounding the inputs moves an output by about 2e-5 of its size.
//
// A group brings its inputs into shared memory and takes tiles of weight rows, which its simds
// share in bands (dot_band.h). Lanes take units of the rows, a batch of which is always on its
// way: the first while inputs are rounded, and that of the next tile while one is summed. A lane
// adds its units in order and lanes are summed as a tree, whatever the number of rows, so a row
// gets the same bits alone and in a batch.
#pragma once

#include "kernels/dot_band.h"

namespace narwhal {
namespace kernels {

// Rounds run item of the inputs, 16 columns of a row of `items` runs; a block of 32 lies on two
// neighbouring lanes.
template <int N, class S>
k_fn void dot_round(k_private const Group& g, k_shared S* sh, int item, int items,
                    k_private const Word4 (&v)[4]) {
  uint32_t bits = 0;
  k_unroll for (int i = 0; i < 16; i++) bits = max_uint(bits, v[i / 4].v[i % 4] & 0x7fffffffu);
  bits = max_uint(bits, g.simd_shuffle(bits, g.lane ^ 1u));
  const float top = k_float(bits);
  // The largest that is 256 high + low in signed bytes is 127 * 257.
  const float inverse = top > 0 ? 32639.0f / top : 0.0f, scale = top / 32639.0f;
  Word4 high, low;
  uint32_t sum = 0u - 16u * 128u;
  k_unroll for (int i = 0; i < 4; i++) {
    uint32_t q[4];  // + 128: the upper byte is that of the nearest multiple of 256
    k_unroll for (int j = 0; j < 4; j++) {
      q[j] = uint32_t(k_round(k_float(v[i].v[j]) * inverse)) + 128u;
      sum += q[j];
    }
    const uint32_t a = k_permute(q[0], q[1], 0x5140u), b = k_permute(q[2], q[3], 0x5140u);
    low.v[i] = k_permute(a, b, 0x5410u) ^ 0x80808080u;
    high.v[i] = k_permute(a, b, 0x7632u);
  }
  if (item >= N * items) return;
  const int row = N == 1 ? 0 : item / items, first = row * S::kColumns;
  const int column = (item - row * items) * 16;
  const int at = first + column;
  k_store4(sh->high + at / 4, high);
  k_store4(sh->low + at / 4, low);
  if (item % 2 == 0) sh->scale[at / 32] = scale;
  if (S::kHasSums) sh->sum[at / 16] = float(int(sum)) * scale;
}

// x[c][begin .. begin + count) of n rows, count <= kColumns a multiple of 32; rows from n on repeat
// the last. Begins and ends with barriers.
template <int N, class S>
k_fn void dot_inputs(k_private const Group& g, k_shared S* sh, k_device const float* x,
                     int64_t x_stride, int n, int begin, int count) {
  g.await_results();
  g.barrier();
  if (int(g.index) < S::kZeros) sh->zeros[g.index] = 0;
  const int items = count / 16;  // of a row
  const int kBatch = 2;          // runs of a thread on their way at once
  for (int first = int(g.index); first - int(g.lane) < N * items; first += kBatch * S::kThreads) {
    Word4 v[kBatch][4];
    k_unroll for (int i = 0; i < kBatch; i++) {
      const int item = min_int(first + i * S::kThreads, N * items - 1);
      const int row = N == 1 ? 0 : item / items;
      k_device const float* from =
          x + (N == 1 ? 0 : min_int(row, n - 1) * x_stride) + begin + (item - row * items) * 16;
      k_unroll for (int j = 0; j < 4; j++) {
        const Word4 four = k_load4(from + 4 * j);
        k_unroll for (int k = 0; k < 4; k++) v[i][j].v[k] = four.v[k];
      }
    }
    k_unroll for (int i = 0; i < kBatch; i++) if (first - int(g.lane) + i * S::kThreads < N * items)
        dot_round<N>(g, sh, first + i * S::kThreads, items, v[i]);
  }
  g.barrier();
}

// Units of each of its rows that a lane asks for at a time: what registers hold, together not more
// columns than shared memory holds.
template <class Team, class C, class S>
struct DotBatch {
  k_value int kWanted = (C::kUnit == 16 ? 8 : 4) / Team::kRows;
  k_value int kMost = S::kColumns / (Team::kLanes * C::kUnit);
  k_value int kUnits = kWanted < kMost ? kWanted : kMost;
};

// A lane's first unit of a row with `units` of them; the last, where it has none.
template <class Team, class C>
k_fn Planes lane_planes(k_private const Group& g, k_private const Planes& row, int units) {
  return skip_units<C>(row, min_int(Team::slot(g), units - 1));
}

// Asks for a batch, from `first` units behind the lane's first ones in rows with `units` of them.
// Beyond the last, for the first ones: no branch holds loads back.
template <class Team, class C, int R, int kUnits>
k_fn void dot_load(k_private const Group& g, k_private const Planes (&rows)[R], int first,
                   int units, k_private typename C::Raw (&batch)[kUnits][R]) {
  const int kLanes = Team::kLanes, kPerBlock = C::kBlock / C::kUnit;
  static_assert(Team::kLanes % (C::kBlock / C::kUnit) == 0, "lanes go on by whole blocks");
  if (first + kUnits * kLanes <= units) {  // addresses a constant apart
    k_unroll for (int r = 0; r < R; r++) {
      const Planes at = skip_blocks<C>(rows[r], int(unsigned(first) / kPerBlock) * C::kStripe);
      k_unroll for (int i = 0; i < kUnits; i++) C::load(at, i * kLanes, batch[i][r]);
    }
  } else {
    k_unroll for (int i = 0; i < kUnits; i++) {
      const int u = first + i * kLanes, there = u + Team::slot(g) < units ? u : 0;
      k_unroll for (int r = 0; r < R; r++) {
        const Planes at = skip_blocks<C>(rows[r], there / kPerBlock * C::kStripe);
        C::load(at, 0, batch[i][r]);
      }
    }
  }
}

// `value`, known only when the batch has come and, if given, `before` is computed (k_after).
template <class C, int kUnits, int R>
k_fn int dot_after(int value, k_private const typename C::Raw (&batch)[kUnits][R],
                   float before = 0) {
  uint32_t words = k_bits(before);
  k_unroll for (int i = 0; i < kUnits; i++) k_unroll for (int r = 0; r < R; r++) words ^=
      C::touch(batch[i][r]);
  return k_after(value, words);
}

template <class T, int kUnits, int R>
k_fn void dot_copy(k_private const T (&from)[kUnits][R], k_private T (&to)[kUnits][R]) {
  k_unroll for (int i = 0; i < kUnits; i++) k_unroll for (int r = 0; r < R; r++) to[i][r] =
      from[i][r];
}

// Units u + slot .. of the rows, where the first inputs in shared memory are at column `begin`.
template <class Team, class C, int N, class S, class Table, int kUnits, int R>
k_fn void dot_batch(k_private const Group& g, k_shared S* sh, k_shared const Table* table,
                    k_private const typename C::Raw (&batch)[kUnits][R], int u, int units,
                    int begin, k_private float (&acc)[R][N]) {
  const int slot = Team::slot(g), kLanes = Team::kLanes, column = C::column(slot, 0);
  k_unroll for (int i = 0; i < kUnits; i++) if (u + slot + i * kLanes < units) {
    const UnitInputs x =
        unit_inputs<C>(g, sh, unsigned(column + (u + i * kLanes) * C::kUnit - begin));
    dot_unit<C, S::kColumns>(g, table, x, batch[i], acc);
  }
}

// Rows of n_in columns times N inputs, part of a group: this lane's share is added to acc. `batch`
// holds the rows' first units and, afterwards, those of `next`, the rows that come after (`more`).
// x null: the inputs are in shared memory.
template <class Team, class C, int N, class S, class Table, int kUnits, int R>
k_fn void dot_rows(k_private const Group& g, k_shared S* sh, k_shared const Table* table,
                   k_private typename C::Raw (&batch)[kUnits][R], k_private const Planes (&rows)[R],
                   k_private const Planes (&next)[R], bool more, int n_in, k_device const float* x,
                   int64_t x_stride, int n, k_private float (&acc)[R][N]) {
  const int kBatch = kUnits * Team::kLanes, units = n_in / C::kUnit;
  static_assert(S::kColumns % (kUnits * Team::kLanes * C::kUnit) == 0, "pieces of whole batches");
  int begin = 0;  // first column in shared memory
  for (int u = 0; u < units; u += kBatch) {
    if (x && u * C::kUnit % S::kColumns == 0) {
      begin = u * C::kUnit;
      dot_inputs<N>(g, sh, x, x_stride, n, begin, min_int(S::kColumns, n_in - begin));
    }
    typename C::Raw coming[kUnits][R];
    dot_copy(batch, coming);
    if (u + kBatch < units)
      dot_load<Team, C>(g, rows, dot_after<C>(u + kBatch, batch), units, coming);
    else if (more)
      dot_load<Team, C>(g, next, dot_after<C>(0, batch), units, coming);
    dot_batch<Team, C, N>(g, sh, table, batch, u, units, begin, acc);
    dot_copy(coming, batch);
  }
}

// Where stretch i begins, of which the first `longer` have each + 1 items and the others `each`.
k_fn int stretch_begin(unsigned i, unsigned each, unsigned longer) {
  return int(i * each + (i < longer ? i : longer));
}

// As MatVec, with a stretch of tiles in a group: inputs are rounded once for all that see the same
// ones.
template <class Team, class C, int N>
struct DotVec {
  k_value int kThreads = kDotThreads, kResident = 2, kRows = N,
              kOutputs = Team::kOutputs;  // of a tile
  k_value int R = Team::kRows;
  k_value bool kBeginsEarly = true;
  typedef DotShared<Team, C, N> Shared;
  ProductList list;
  int n_groups, n;
  int add;
  k_device const float* x;
  unsigned n_stretches;

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
    const int o = (tile - t.part * across) * kOutputs;
    k_unroll for (int r = 0; r < R; r++) {
      const Planes row =
          planes_of<C>(w, t.part * per_part + min_int(o + Team::row(g, r), per_part - 1));
      const Planes mine = lane_planes<Team, C>(g, row, int(w.n_in) / C::kUnit);
      rows[r] = mine;
    }
    t.first = t.part * per_part + o;
    t.count = per_part - o;
    t.n_out = n_out;
    t.n_in = int(w.n_in);
    t.c0 = turn * N;
    t.y = list.output(one);
  }

  // As find of the tile after t, a whole one of the same part.
  k_call void follow(k_private Tile& t, k_private Planes (&rows)[R]) k_const {
    const int blocks = kOutputs * (t.n_in / C::kBlock);
    t.first += kOutputs;
    t.count -= kOutputs;
    k_unroll for (int r = 0; r < R; r++) {
      const Planes at = skip_blocks<C>(rows[r], blocks);
      rows[r] = at;
    }
  }

  k_call void store(k_private const Group& g, k_shared Shared* sh, int turn,
                    k_private const Tile& t, k_private float (&acc)[R][N]) k_const {
    band_sum(Team(), g, sh, turn, acc);
    const int in_band = int(g.lane), row = int(g.simd) / Team::kSimds * Team::kBandRows + in_band;
    if (!is_first(Team(), g) || in_band >= Team::kBandRows || row >= t.count) return;
    k_unroll for (int c = 0; c < N; c++) {
      if (c >= n - t.c0) continue;
      const float sum = band_total(Team(), g, sh, turn, N, c, in_band);
      k_device float* out = t.y + int64_t(t.c0 + c) * t.n_out + t.first + row;
      *out = add ? *out + sum : sum;
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const unsigned all = unsigned(list.all_tiles() * ((n + N - 1) / N)), each = all / n_stretches;
    const unsigned longer = all - each * n_stretches;  // stretches with one more
    const int begin = stretch_begin(g.group, each, longer);
    const int end = begin + int(each) + int(g.group < longer);
    Tile t, coming;
    Planes rows[R], next[R];
    find(g, begin, t, rows);
    typename C::Raw batch[DotBatch<Team, C, Shared>::kUnits][R];
    dot_load<Team, C>(g, rows, 0, t.n_in / C::kUnit, batch);
    load_table(g, &sh->table);
    int held_part = -1, held_c0 = -1;
    for (int at = begin; at < end; at++) {
      const bool more = at + 1 < end;
      coming = t;
      k_unroll for (int r = 0; r < R; r++) next[r] = rows[r];
      if (more && t.count >= 2 * kOutputs)
        follow(coming, next);
      else if (more)
        find(g, at + 1, coming, next);
      if (!more && n_groups > 1) {  // wo_a: wo_b's groups wait for room
        g.await_results();
        g.release_next();
      }
      const bool held = t.n_in <= Shared::kColumns && held_part == t.part && held_c0 == t.c0;
      const int64_t stride = int64_t(t.n_in) * n_groups;
      float acc[R][N];
      k_unroll for (int r = 0; r < R; r++) k_unroll for (int c = 0; c < N; c++) acc[r][c] = 0;
      k_device const float* from = held ? nullptr : x + t.c0 * stride + int64_t(t.part) * t.n_in;
      const int n_rows = min_int(N, n - t.c0);
      dot_rows<Team, C, N>(g, sh, &sh->table, batch, rows, next, more, t.n_in, from, stride, n_rows,
                           acc);
      store(g, sh, at, t, acc);
      held_part = t.part;
      held_c0 = t.c0;
      t = coming;
      k_unroll for (int r = 0; r < R; r++) rows[r] = next[r];
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
