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

// One group per row: every thread scores experts, then one simd chooses: k rounds of "largest score
// + bias, the lower id among equals"; then ids ascend and weights are scale * s / sum s.
struct Route {
  k_value int kThreads = 256, kMaxExperts = 1024, kMaxUsed = 32;
  k_value int kEach = kMaxExperts / kSimd;  // of a lane: expert 32 j + lane
  struct Shared {
    uint32_t order[kMaxExperts];  // ordered_bits of score + bias
    int chosen[kMaxUsed];
    float score[kMaxUsed];
  };
  Rows b;
  int n_experts, k;
  float scale;
  k_device const float* logits;
  k_device const float* bias;
  k_device const int32_t* tid2eid;
  k_device int32_t* ids;
  k_device float* weights;

  // Lane i gets the i-th choice.
  k_call int choose(k_private const Group& g, k_shared const Shared* sh) k_const {
    uint32_t order[kEach];  // 0 where taken or not there
    k_unroll for (int j = 0; j < kEach; j++) {
      const int e = j * kSimd + int(g.lane);
      order[j] = e < n_experts ? sh->order[e] : 0u;
    }
    int mine = 0;
    for (int i = 0; i < k; i++) {
      uint32_t top = 0, id = 0;  // ids are kept as ~id: the largest is the lowest
      k_unroll for (int j = 0; j < kEach; j++) {
        if (j * kSimd >= n_experts || order[j] <= top) continue;
        top = order[j];
        id = ~uint32_t(j * kSimd + int(g.lane));
      }
      const uint32_t best = g.simd_max(top);
      const int taken = int(~g.simd_max(top == best ? id : 0u));
      if (int(g.lane) == i) mine = taken;
      k_unroll for (int j = 0; j < kEach; j++) if (taken == j * kSimd + int(g.lane)) order[j] = 0;
    }
    return mine;
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int r = int(g.group), lane = int(g.lane);
    k_device const float* l = logits + int64_t(r) * n_experts;
    if (!tid2eid) {
      for (int e = int(g.index); e < n_experts; e += kThreads) {
        const float logit = l[e], more = bias[e];
        sh->order[e] = ordered_bits(expert_score(logit) + more);
      }
      g.barrier();
    }
    if (g.simd > 0) return;
    int mine = 0;
    if (!tid2eid)
      mine = choose(g, sh);
    else if (lane < k)
      mine = tid2eid[int64_t(b.token[r]) * k + lane];
    int place = 0;
    for (int i = 0; i < k; i++) {
      const int other = int(g.simd_shuffle(uint32_t(mine), unsigned(i)));
      place += int(other < mine || (other == mine && i < lane));
    }
    if (lane < k) {
      sh->chosen[place] = mine;
      sh->score[place] = expert_score(l[mine]);
    }
    g.simd_barrier();
    // The smallest sum divided by keeps vanishing scores finite.
    float sum = 0;
    for (int i = 0; i < k; i++) sum += sh->score[i];
    sum = max_float(sum, 6.103515625e-5f);  // 2^-14
    if (lane >= k) return;
    ids[int64_t(r) * k + lane] = sh->chosen[lane];
    weights[int64_t(r) * k + lane] = scale * sh->score[lane] / sum;
  }
};

}  // namespace kernels
}  // namespace narwhal
