// Routed experts (model section 10) of few rows: one simd per weight row of every chosen expert.
// Many rows: expert_tiles.h.
#pragma once

#include "kernels/matvec.h"

namespace narwhal {
namespace kernels {

k_fn float silu_clamped(float gate, float up, float limit) {
  gate = min_float(gate, limit);  // no lower clamp
  up = max_float(-limit, min_float(up, limit));
  return gate / (1.0f + k_exp(-gate)) * up;
}

// hidden[p][j] = silu(min(w1 x, L)) clamp(w3 x, -L, L) weight for every pair p = row * k + choice.
// Without ids there is one expert, of weight 1.
template <class C>
struct ExpertHidden {
  k_value int kThreads = 128, kPerSimd = 2, kOutputs = 4 * kPerSimd;
  struct Shared {
    typename C::Table table;
  };
  Matrix w1, w3;
  int k;
  float limit;
  k_device const float* x;
  k_device const int32_t* ids;
  k_device const float* weights;
  k_device float* hidden;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    const int64_t inner = w1.n_out;
    const int tiles = int((inner + kOutputs - 1) / kOutputs);
    const int pair = int(g.group) / tiles;
    const int64_t j = int64_t(int(g.group) % tiles) * kOutputs + g.simd * kPerSimd;
    if (j >= inner) return;
    const int64_t j1 = j + 1 < inner ? j + 1 : j;
    const int e = ids ? ids[pair] : 0;
    const float weight = ids ? weights[pair] : 1.0f;
    const Matrix a = expert_of(w1, e), b = expert_of(w3, e);
    const Planes rows[4] = {planes_of<C>(a, j), planes_of<C>(a, j1), planes_of<C>(b, j),
                            planes_of<C>(b, j1)};
    float acc[4][1] = {{0}, {0}, {0}, {0}};
    accumulate<C, 4, 1>(&sh->table, rows, int(w1.n_in) / C::kUnit, int(g.lane), kSimd,
                        x + pair / k * w1.n_in, 0, 1, acc);
    float sum[4];
    for (int i = 0; i < 4; i++) sum[i] = g.simd_sum(acc[i][0]);
    if (g.lane == 0) {
      hidden[pair * inner + j] = silu_clamped(sum[0], sum[2], limit) * weight;
      if (j1 != j) hidden[pair * inner + j1] = silu_clamped(sum[1], sum[3], limit) * weight;
    }
  }
};

// y[r][o] = sum over r's experts, ascending, of w2_e[o] . hidden.
template <class C>
struct ExpertDown {
  k_value int kThreads = 128, kOutputs = 4;
  struct Shared {
    typename C::Table table;
  };
  Matrix w2;
  int k;
  k_device const int32_t* ids;
  k_device const float* hidden;
  k_device float* y;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    load_table(g, &sh->table);
    const int tiles = int((w2.n_out + kOutputs - 1) / kOutputs), r = int(g.group) / tiles;
    const int64_t o = int64_t(int(g.group) % tiles) * kOutputs + g.simd;
    if (o >= w2.n_out) return;
    float acc[1][1] = {{0}};
    for (int i = 0; i < k; i++) {
      const int pair = r * k + i;
      const Matrix w = expert_of(w2, ids[pair]);
      const Planes row[1] = {planes_of<C>(w, o)};
      accumulate<C, 1, 1>(&sh->table, row, int(w2.n_in) / C::kUnit, int(g.lane), kSimd,
                          hidden + pair * w2.n_in, 0, 1, acc);
    }
    const float sum = g.simd_sum(acc[0][0]);
    if (g.lane == 0) y[r * w2.n_out + o] = sum;
  }
};

}  // namespace kernels
}  // namespace narwhal
