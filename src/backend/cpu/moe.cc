#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/dot.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

// The smallest sum of chosen scores that is divided by, so that vanishing scores stay finite.
constexpr float kMinScoreSum = 0x1p-14f;

float softplus(float l) { return l > 20 ? l : std::log1p(std::exp(l)); }

float silu_clamped(float gate, float up, float limit) {
  gate = std::min(gate, limit);  // no lower clamp
  up = std::max(-limit, std::min(up, limit));
  return gate / (1 + std::exp(-gate)) * up;
}

}  // namespace

void CpuOps::route(const BatchRows& b, const float* logits, int n_experts, const float* bias,
                   const int32_t* tid2eid, int k, float scale, int32_t* ids, float* weights) {
  const auto score = [](float l) { return std::sqrt(softplus(l)); };
  each_row(b.n_rows, int64_t{40} * n_experts, [&](int64_t begin, int64_t end, int thread) {
    float* s = scratch(thread).keys.data();
    for (int64_t r = begin; r < end; r++) {
      const float* l = logits + r * n_experts;
      int32_t* chosen = ids + r * k;
      if (tid2eid) {
        std::copy_n(tid2eid + int64_t{b.token[r]} * k, k, chosen);
      } else {
        for (int e = 0; e < n_experts; e++) s[e] = score(l[e]) + bias[e];
        for (int i = 0; i < k; i++) {  // the lowest id wins a tie
          chosen[i] = static_cast<int32_t>(std::max_element(s, s + n_experts) - s);
          s[chosen[i]] = -std::numeric_limits<float>::infinity();
        }
      }
      std::sort(chosen, chosen + k);
      float sum = 0;
      for (int i = 0; i < k; i++) sum += score(l[chosen[i]]);
      for (int i = 0; i < k; i++)
        weights[r * k + i] = scale * score(l[chosen[i]]) / std::max(sum, kMinScoreSum);
    }
  });
}

void CpuOps::routed_experts(const ExpertParams& p, int n, int k, const float* x, const int32_t* ids,
                            const float* weights, float* hidden, float* y) {
  const int64_t d = p.w1.n_in, inner = p.w1.n_out, n_pairs = int64_t{n} * k;
  const int n_experts = static_cast<int>(p.w1.n_experts);

  // Counting sort of (row, choice) pairs by expert; rows stay in order.
  int32_t* at = expert_begin_.data();
  std::fill_n(at, n_experts + 1, 0);
  for (int64_t i = 0; i < n_pairs; i++) at[ids[i] + 1]++;
  int n_active = 0;
  for (int e = 0; e < n_experts; e++) {
    if (at[e + 1] > 0) active_[n_active++] = e;
    at[e + 1] += at[e];
  }
  for (int64_t i = 0; i < n_pairs; i++) pairs_[at[ids[i]]++] = static_cast<int32_t>(i);
  const auto pairs_of = [&](int e) {
    return e == 0 ? 0 : at[e - 1];
  };  // after the sort at[e] = end of e

  // Hidden rows: each weight row of an expert is decoded once for all its tokens.
  each_row(n_active * inner, 2 * d * std::max<int64_t>(1, n_pairs / std::max(n_active, 1)),
           [&](int64_t begin, int64_t end, int thread) {
             float* row = scratch(thread).weights.data();
             for (int64_t item = begin; item < end; item++) {
               const int e = active_[item / inner];
               const int64_t j = item % inner;
               quant::decode_row(p.w1.type, p.w1.expert(e).row(j), d, row);
               quant::decode_row(p.w3.type, p.w3.expert(e).row(j), d, row + d);
               for (int32_t i = pairs_of(e); i < at[e]; i++) {
                 float gate_up[2];
                 dot_rows<2>(row, d, x + pairs_[i] / k * d, d, gate_up);
                 hidden[pairs_[i] * inner + j] =
                     silu_clamped(gate_up[0], gate_up[1], p.limit) * weights[pairs_[i]];
               }
             }
           });
  // Down projection: experts ascend for every output, which fixes the order of the sum.
  each_row(p.w2.n_out, inner * n_pairs, [&](int64_t begin, int64_t end, int thread) {
    float* row = scratch(thread).weights.data();
    for (int64_t o = begin; o < end; o++) {
      for (int r = 0; r < n; r++) y[r * p.w2.n_out + o] = 0;
      for (int a = 0; a < n_active; a++) {
        const int e = active_[a];
        quant::decode_row(p.w2.type, p.w2.expert(e).row(o), inner, row);
        for (int32_t i = pairs_of(e); i < at[e]; i++)
          y[pairs_[i] / k * p.w2.n_out + o] += dot(row, hidden + pairs_[i] * inner, inner);
      }
    }
  });
}

void CpuOps::swiglu(int64_t n, float limit, const float* u, float* g) {
  each_row(n, 32, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) g[i] = silu_clamped(g[i], u[i], limit);
  });
}

}  // namespace narwhal
