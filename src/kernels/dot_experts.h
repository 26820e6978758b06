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

// Two hidden values of a simd, from j on, of one expert and row: as ExpertHidden. `held`: the row
// is in shared memory already.
template <class C, class S>
k_fn void dot_hidden(k_private const Group& g, k_shared S* sh,
                     k_shared const typename C::Table* table, k_private const Matrix& w1,
                     k_private const Matrix& w3, k_device const float* x, float limit, float weight,
                     int64_t j, bool held, k_device float* hidden) {
  const int64_t inner = w1.n_out;
  const Matrix m[4] = {w1, w1, w3, w3};
  const int64_t j0 = j < inner ? j : inner - 1, j1 = j + 1 < inner ? j + 1 : inner - 1;
  const int64_t row[4] = {j0, j1, j0, j1};
  float acc[4][1] = {{0}, {0}, {0}, {0}}, sum[4];
  for (int k0 = 0; k0 < int(w1.n_in); k0 += S::kColumns) {
    const int columns = min_int(S::kColumns, int(w1.n_in) - k0);
    if (!held || w1.n_in > S::kColumns) dot_inputs<1>(g, sh, x, 0, 1, k0, columns);
    dot_rows<C, 4, 1>(g, sh, table, m, row, k0, columns, acc);
  }
  k_unroll for (int i = 0; i < 4; i++) sum[i] = g.simd_sum(acc[i][0]);
  if (g.lane != 0) return;
  if (j < inner) hidden[j] = silu_clamped(sum[0], sum[2], limit) * weight;
  if (j + 1 < inner) hidden[j + 1] = silu_clamped(sum[1], sum[3], limit) * weight;
}

// Tiles of the routed pairs, then those of the shared expert, `tiles` of them in a group. Without
// ids the routed expert is one, of weight 1.
template <class C, class Shared8>
struct DotHidden {
  k_value int kThreads = kDotThreads, kResident = 2, kOutputs = 2 * kDotSimds;
  typedef DotShared<C, 1> Shared;
  Matrix w1, w3, shared_w1, shared_w3;
  int n, k, tiles;
  float limit;
  k_device const float* x;
  k_device const int32_t* ids;
  k_device const float* weights;
  k_device float* hidden;         // [n][k][inner]
  k_device float* shared_hidden;  // [n][shared inner]

  k_call int across(k_private const Matrix& w) k_const {
    return int((w.n_out + kOutputs - 1) / kOutputs);
  }

  k_call int n_tiles() k_const {
    return n * k * across(w1) + (IsCodec<Shared8>::kValue ? n * across(shared_w1) : 0);
  }

  k_call void prefetch_both(k_private const Group& g, k_private const Matrix& a,
                            k_private const Matrix& b, int tile) k_const {
    const int64_t j = int64_t(tile) * kOutputs, rest = a.n_out - j;
    prefetch_rows<CodecQ8_0>(g, a, j, rest < kOutputs ? rest : kOutputs);
    prefetch_rows<CodecQ8_0>(g, b, j, rest < kOutputs ? rest : kOutputs);
  }

  // Only the shared expert is known beforehand.
  k_call void ahead(k_private const Group& g) k_const {
    const int routed = n * k * across(w1), end = min_int((int(g.group) + 1) * tiles, n_tiles());
    if (IsCodec<Shared8>::kValue && n == 1)
      for (int at = max_int(int(g.group) * tiles, routed); at < end; at++)
        prefetch_both(g, shared_w1, shared_w3, at - routed);
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    const int routed = n * k * across(w1), end = min_int((int(g.group) + 1) * tiles, n_tiles());
    int held = -1;
    for (int at = int(g.group) * tiles; at < end; at++) {
      const bool is_shared = at >= routed;
      const int of = is_shared ? at - routed : at;
      const int wide = is_shared ? across(shared_w1) : across(w1);
      const int pair = of / wide, r = is_shared ? pair : pair / k;
      const int64_t j = int64_t(of % wide) * kOutputs + 2 * g.simd;
      k_device const float* row = x + r * w1.n_in;
      if (!is_shared) {
        const int e = ids ? ids[pair] : 0;
        const Matrix a = expert_of(w1, e), b = expert_of(w3, e);
        dot_hidden<C>(g, sh, &sh->table, a, b, row, limit, ids ? weights[pair] : 1.0f, j, held == r,
                      hidden + pair * w1.n_out);
      } else if (IsCodec<Shared8>::kValue) {
        dot_hidden<CodecQ8_0>(g, sh, static_cast<k_shared const NoTable*>(nullptr), shared_w1,
                              shared_w3, row, limit, 1.0f, j, held == r,
                              shared_hidden + pair * shared_w1.n_out);
      }
      held = r;
    }
  }
};

// Two outputs of a simd: as ExpertDown, plus the shared expert's. The row's experts, one after
// another, are one row of k * n_in columns: their weights are all on the way at once.
template <class C, class Shared8>
struct DotDown {
  k_value int kThreads = kDotThreads, kResident = 2, kPerSimd = 2, kOutputs = kDotSimds * kPerSimd;
  typedef DotShared<C, 1> Shared;
  Matrix w2, shared_w2;
  int k;
  k_device const int32_t* ids;
  k_device const float* hidden;
  k_device const float* shared_hidden;
  k_device float* y;

  k_call void add_units(k_private const Group& g, k_shared const Shared* sh,
                        k_private const int64_t (&row)[kPerSimd], int begin, int count,
                        k_private float (&acc)[kPerSimd][1]) k_const {
    const int kAhead = Ahead<C, kPerSimd>::kUnits;
    const int units = int(w2.n_in) / C::kUnit, last = (begin + count) / C::kUnit;
    for (int u = begin / C::kUnit + int(g.lane); u < last; u += kAhead * kSimd) {
      typename C::Raw raw[kAhead][kPerSimd];
      k_unroll for (int i = 0; i < kAhead; i++) {
        const int at = u + i * kSimd;
        if (at >= last) continue;
        const Matrix m = expert_of(w2, sh->experts[at / units]);
        k_unroll for (int r = 0; r < kPerSimd; r++) C::load(m, row[r], at % units, raw[i][r]);
      }
      k_unroll for (int i = 0; i < kAhead; i++) {
        const int at = u + i * kSimd;
        if (at < last)
          dot_unit<C, kPerSimd, 1>(sh, &sh->table, raw[i], at % units,
                                   at / units * int(w2.n_in) - begin, g.lane % kTableCopies, acc);
      }
    }
  }

  k_call void add_shared(k_private const Group& g, k_shared Shared* sh, int r,
                         k_private const int64_t (&row)[kPerSimd],
                         k_private float (&acc)[kPerSimd][1]) k_const {
    const Matrix w[kPerSimd] = {shared_w2, shared_w2};
    for (int k0 = 0; k0 < int(shared_w2.n_in); k0 += Shared::kColumns) {
      const int columns = min_int(Shared::kColumns, int(shared_w2.n_in) - k0);
      dot_inputs<1>(g, sh, shared_hidden + r * shared_w2.n_in, 0, 1, k0, columns);
      dot_rows<CodecQ8_0, kPerSimd, 1>(g, sh, static_cast<k_shared const NoTable*>(nullptr), w, row,
                                       k0, columns, acc);
    }
  }

  k_call void ahead(k_private const Group& g) k_const {
    const int tiles = int((w2.n_out + kOutputs - 1) / kOutputs);
    const int64_t o = int64_t(int(g.group) % tiles) * kOutputs, rest = w2.n_out - o;
    if (IsCodec<Shared8>::kValue)
      prefetch_rows<CodecQ8_0>(g, shared_w2, o, rest < kOutputs ? rest : kOutputs);
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    const int tiles = int((w2.n_out + kOutputs - 1) / kOutputs), r = int(g.group) / tiles;
    const int64_t o = int64_t(int(g.group) % tiles) * kOutputs + g.simd * kPerSimd;
    if (int(g.index) < k) sh->experts[g.index] = ids[r * k + int(g.index)];
    const int64_t row[kPerSimd] = {o < w2.n_out ? o : w2.n_out - 1,
                                   o + 1 < w2.n_out ? o + 1 : w2.n_out - 1};
    float acc[kPerSimd][1] = {{0}, {0}}, more[kPerSimd][1] = {{0}, {0}};
    const int all = k * int(w2.n_in);
    for (int k0 = 0; k0 < all; k0 += Shared::kColumns) {
      const int columns = min_int(Shared::kColumns, all - k0);
      dot_inputs<1>(g, sh, hidden + int64_t(r) * all, 0, 1, k0, columns);
      add_units(g, sh, row, k0, columns, acc);
    }
    if (IsCodec<Shared8>::kValue) add_shared(g, sh, r, row, more);
    k_unroll for (int i = 0; i < kPerSimd; i++) {
      float sum = g.simd_sum(acc[i][0]);
      if (IsCodec<Shared8>::kValue) sum += g.simd_sum(more[i][0]);
      if (g.lane == 0 && o + i < w2.n_out) y[r * w2.n_out + o + i] = sum;
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
