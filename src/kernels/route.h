// Expert choice (model section 10).
#pragma once

#include "kernels/indexer.h"

namespace narwhal {
namespace kernels {

// ln(1 + e) for e >= 0 without losing small e.
k_fn float log_1p(float e) {
  const float u = 1.0f + e;
  return u == 1.0f ? e : k_log(u) * (e / (u - 1.0f));
}

k_fn float expert_score(float logit) {
  return k_sqrt(logit > 20.0f ? logit : log_1p(k_exp(logit)));
}

// One group per row: k rounds of "largest score + bias, the lower id among equals"; then ids ascend
// and weights are scale * s / sum s.
struct Route {
  k_value int kThreads = 256, kMaxExperts = 1024, kMaxUsed = 32;
  struct Shared {
    uint32_t score[kMaxExperts];  // ordered_bits
    uint32_t best[8], best_id[8];
    int chosen[kMaxUsed];
  };
  Rows b;
  int n_experts, k;
  float scale;
  k_device const float* logits;
  k_device const float* bias;
  k_device const int32_t* tid2eid;
  k_device int32_t* ids;
  k_device float* weights;

  k_call void choose(k_private const Group& g, k_shared Shared* sh,
                     k_device const float* l) k_const {
    for (int e = int(g.index); e < n_experts; e += kThreads)
      sh->score[e] = ordered_bits(expert_score(l[e]) + bias[e]);
    for (int i = 0; i < k; i++) {
      g.barrier();
      uint32_t top = 0, id = 0;  // ids are kept as ~id: the largest is the lowest
      for (int e = int(g.index); e < n_experts; e += kThreads)
        if (sh->score[e] > top) {
          top = sh->score[e];
          id = ~uint32_t(e);
        }
      const uint32_t simd_top = g.simd_max(top);
      const uint32_t simd_id = g.simd_max(top == simd_top ? id : 0u);
      if (g.lane == 0) {
        sh->best[g.simd] = simd_top;
        sh->best_id[g.simd] = simd_id;
      }
      g.barrier();
      if (g.index == 0) {
        for (unsigned s = 0; s < g.n_simds(); s++)
          if (sh->best[s] > top || (sh->best[s] == top && sh->best_id[s] > id)) {
            top = sh->best[s];
            id = sh->best_id[s];
          }
        sh->chosen[i] = int(~id);
        sh->score[~id] = 0;
      }
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int r = int(g.group);
    k_device const float* l = logits + int64_t(r) * n_experts;
    if (tid2eid) {
      for (int i = int(g.index); i < k; i += kThreads)
        sh->chosen[i] = tid2eid[int64_t(b.token[r]) * k + i];
    } else {
      choose(g, sh, l);
    }
    g.barrier();
    if (g.index != 0) return;
    for (int i = 1; i < k; i++) {  // insertion sort
      const int e = sh->chosen[i];
      int j = i;
      for (; j > 0 && sh->chosen[j - 1] > e; j--) sh->chosen[j] = sh->chosen[j - 1];
      sh->chosen[j] = e;
    }
    // The smallest sum divided by keeps vanishing scores finite.
    float sum = 0;
    for (int i = 0; i < k; i++) sum += expert_score(l[sh->chosen[i]]);
    sum = max_float(sum, 6.103515625e-5f);  // 2^-14
    for (int i = 0; i < k; i++) {
      ids[int64_t(r) * k + i] = sh->chosen[i];
      weights[int64_t(r) * k + i] = scale * expert_score(l[sh->chosen[i]]) / sum;
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
