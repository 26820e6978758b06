// Experts of few rows by integer products (dot.h): the routed ones alone or with the shared expert,
// whose weights are Q8_0, in the same launch.
#pragma once

#include "kernels/dot.h"

namespace narwhal {
namespace kernels {

struct NoCodec {};  // no shared expert
template <class C>
struct IsCodec {
  k_value bool kValue = true;
};
template <>
struct IsCodec<NoCodec> {
  k_value bool kValue = false;
};

// A simd's rows of two hidden values of one expert and row: gate, gate, up, up.
k_value int kHiddenRows = 4;

template <class C>
k_fn void hidden_rows(k_private const Matrix& w1, k_private const Matrix& w3, int64_t j,
                      k_private Planes (&rows)[kHiddenRows]) {
  k_unroll for (int i = 0; i < 2; i++) {
    const int64_t row = min_long(j + i, w1.n_out - 1);
    const Planes gate = planes_of<C>(w1, row), up = planes_of<C>(w3, row);
    rows[i] = gate;
    rows[i + 2] = up;
  }
}

// Two hidden values of a simd, from j on, of one expert and row: as ExpertHidden. x null: the row
// is in shared memory.
template <class C, class S>
k_fn void dot_hidden(k_private const Group& g, k_shared S* sh,
                     k_shared const typename C::Table* table,
                     k_private
                     typename C::Raw (&batch)[DotBatch<C, kHiddenRows>::kUnits][kHiddenRows],
                     k_private const Planes (&rows)[kHiddenRows],
                     k_private const Planes (&next)[kHiddenRows], bool more, int64_t n_in,
                     int64_t inner, k_device const float* x, float limit, float weight, int64_t j,
                     k_device float* hidden) {
  float acc[kHiddenRows][1] = {{0}, {0}, {0}, {0}}, sum[kHiddenRows];
  dot_rows<C, kHiddenRows, 1>(g, sh, table, batch, rows, next, more, int(n_in), x, 0, 1, acc);
  k_unroll for (int i = 0; i < kHiddenRows; i++) sum[i] = g.simd_sum(acc[i][0]);
  if (g.lane != 0) return;
  if (j < inner) hidden[j] = silu_clamped(sum[0], sum[2], limit) * weight;
  if (j + 1 < inner) hidden[j + 1] = silu_clamped(sum[1], sum[3], limit) * weight;
}

// Tiles of the shared expert, then those of the routed pairs, which are the dearer. A group takes
// every n_spread-th. Without ids the routed expert is one, of weight 1.
template <class C, class Shared8>
struct DotHidden {
  k_value int kThreads = kDotThreads, kResident = 2, kOutputs = 2 * kDotSimds;
  typedef DotShared<C, 1> Shared;
  Matrix w1, w3, shared_w1, shared_w3;
  int n, k, n_spread;
  float limit;
  k_device const float* x;
  k_device const int32_t* ids;
  k_device const float* weights;
  k_device float* hidden;         // [n][k][inner]
  k_device float* shared_hidden;  // [n][shared inner]

  k_call int across(k_private const Matrix& w) k_const {
    return int((w.n_out + kOutputs - 1) / kOutputs);
  }
  k_call int shared_tiles() k_const { return IsCodec<Shared8>::kValue ? n * across(shared_w1) : 0; }
  k_call int n_tiles() k_const { return n * k * across(w1) + shared_tiles(); }

  k_call void find(k_private const Group& g, int of,
                   k_private Planes (&rows)[kHiddenRows]) k_const {
    const int wide = across(w1), e = ids ? ids[of / wide] : 0;
    const Matrix gate = expert_of(w1, e), up = expert_of(w3, e);
    hidden_rows<C>(gate, up, int64_t(of % wide) * kOutputs + 2 * g.simd, rows);
  }

  k_call void one_shared(k_private const Group& g, k_shared Shared* sh, int of,
                         k_private int* held) k_const {
    const int wide = across(shared_w1), r = of / wide;
    const int64_t j = int64_t(of % wide) * kOutputs + 2 * g.simd, n_in = shared_w1.n_in;
    Planes rows[kHiddenRows];
    hidden_rows<CodecQ8_0>(shared_w1, shared_w3, j, rows);
    CodecQ8_0::Raw batch[DotBatch<CodecQ8_0, kHiddenRows>::kUnits][kHiddenRows];
    dot_load<CodecQ8_0, kHiddenRows>(g, rows, 0, int(n_in) / CodecQ8_0::kUnit, batch);
    const bool there = *held == r && n_in <= Shared::kColumns;
    dot_hidden<CodecQ8_0>(g, sh, static_cast<k_shared const NoTable*>(nullptr), batch, rows, rows,
                          false, n_in, shared_w1.n_out, there ? nullptr : x + r * n_in, limit, 1.0f,
                          j, shared_hidden + r * shared_w1.n_out);
    *held = r;
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int n_shared = shared_tiles(), end = n_tiles(), wide = across(w1);
    int at = int(g.group), held = -1;
    if (IsCodec<Shared8>::kValue)
      for (; at < n_shared; at += n_spread) one_shared(g, sh, at, &held);
    if (at >= end) return;
    Planes rows[kHiddenRows], next[kHiddenRows];
    find(g, at - n_shared, rows);
    typename C::Raw batch[DotBatch<C, kHiddenRows>::kUnits][kHiddenRows];
    dot_load<C, kHiddenRows>(g, rows, 0, int(w1.n_in) / C::kUnit, batch);
    load_table(g, &sh->table);
    for (; at < end; at += n_spread) {
      const int of = at - n_shared, pair = of / wide, r = pair / k;
      const bool more = at + n_spread < end;
      find(g, (more ? at + n_spread : at) - n_shared, next);
      const bool there = held == r && w1.n_in <= Shared::kColumns;
      dot_hidden<C>(g, sh, &sh->table, batch, rows, next, more, w1.n_in, w1.n_out,
                    there ? nullptr : x + r * w1.n_in, limit, ids ? weights[pair] : 1.0f,
                    int64_t(of % wide) * kOutputs + 2 * g.simd, hidden + int64_t(pair) * w1.n_out);
      held = r;
      k_unroll for (int i = 0; i < kHiddenRows; i++) rows[i] = next[i];
    }
  }
};

// Two outputs of a simd: as ExpertDown, plus the shared expert's. The row's experts, one after
// another, are one row of k * n_in columns.
template <class C, class Shared8>
struct DotDown {
  k_value int kThreads = kDotThreads, kResident = 2, kPerSimd = 2, kOutputs = kDotSimds * kPerSimd;
  typedef DotShared<C, 1> Shared;
  k_value int kUnits = DotBatch<C, kPerSimd>::kUnits, kStep = DotBatch<C, kPerSimd>::kStep;
  Matrix w2, shared_w2;
  int k;
  k_device const int32_t* ids;
  k_device const float* hidden;
  k_device const float* shared_hidden;
  k_device float* y;

  // Units first, first + 32 .. of the experts' rows, which have `units` together. `rows` are those
  // of expert 0.
  k_call void load(k_shared const Shared* sh, k_private const Planes (&rows)[kPerSimd], int first,
                   int units, k_private typename C::Raw (&batch)[kUnits][kPerSimd]) k_const {
    const int each = int(w2.n_in) / C::kUnit;
    k_unroll for (int i = 0; i < kUnits; i++) {
      const int at = min_int(first + i * kSimd, units - 1);
      const int nth = at / each;
      const int64_t skip = sh->experts[nth] * w2.expert_stride;
      k_unroll for (int r = 0; r < kPerSimd; r++) {
        const Planes row = {rows[r].a + skip, rows[r].b + skip, rows[r].c + skip};
        C::load(row, at - nth * each, batch[i][r]);
      }
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int tiles = int((w2.n_out + kOutputs - 1) / kOutputs), r = int(g.group) / tiles;
    const int64_t o = int64_t(int(g.group) % tiles) * kOutputs + g.simd * kPerSimd;
    const int all = k * int(w2.n_in), units = all / C::kUnit, lane = int(g.lane);
    Planes rows[kPerSimd], shared_rows[kPerSimd];
    CodecQ8_0::Raw shared_batch[DotBatch<CodecQ8_0, kPerSimd>::kUnits][kPerSimd];
    k_unroll for (int i = 0; i < kPerSimd; i++) {
      const Planes row = planes_of<C>(w2, min_long(o + i, w2.n_out - 1));
      rows[i] = row;
    }
    float acc[kPerSimd][1] = {{0}, {0}}, more[kPerSimd][1] = {{0}, {0}};
    if (int(g.index) < k) sh->experts[g.index] = ids[r * k + int(g.index)];
    if (IsCodec<Shared8>::kValue) {
      k_unroll for (int i = 0; i < kPerSimd; i++) {
        const Planes row = planes_of<CodecQ8_0>(shared_w2, min_long(o + i, w2.n_out - 1));
        shared_rows[i] = row;
      }
      dot_load<CodecQ8_0, kPerSimd>(g, shared_rows, 0, int(shared_w2.n_in) / CodecQ8_0::kUnit,
                                    shared_batch);
      dot_rows<CodecQ8_0, kPerSimd, 1>(
          g, sh, static_cast<k_shared const NoTable*>(nullptr), shared_batch, shared_rows,
          shared_rows, false, int(shared_w2.n_in), shared_hidden + r * shared_w2.n_in, 0, 1, more);
    } else {
      g.barrier();
    }
    typename C::Raw batch[kUnits][kPerSimd], coming[kUnits][kPerSimd];
    load(sh, rows, lane, units, batch);
    load_table(g, &sh->table);
    DotPlace<C> at;
    dot_places<C, Shared>(g, at);
    int begin = 0;  // first column in shared memory
    for (int u = 0; u < units; u += kStep) {
      if (u * C::kUnit % Shared::kColumns == 0) {
        begin = u * C::kUnit;
        dot_inputs<1>(g, sh, hidden + int64_t(r) * all, 0, 1, begin,
                      min_int(Shared::kColumns, all - begin));
      }
      dot_copy(batch, coming);
      if (u + kStep < units) load(sh, rows, u + kStep + lane, units, coming);
      k_unroll for (int i = 0; i < kUnits; i++) if (u + lane + i * kSimd < units)
          dot_unit<C, kPerSimd, 1>(sh, &sh->table, at, batch[i], (u + i * kSimd) * C::kUnit - begin,
                                   g.lane % kTableCopies, acc);
      dot_copy(coming, batch);
    }
    k_unroll for (int i = 0; i < kPerSimd; i++) {
      float sum = g.simd_sum(acc[i][0]);
      if (IsCodec<Shared8>::kValue) sum += g.simd_sum(more[i][0]);
      if (g.lane == 0 && o + i < w2.n_out) y[r * w2.n_out + o + i] = sum;
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
