#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/ref/ref_ops.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

// The smallest sum of chosen scores that is divided by, so that six vanishing scores stay finite.
constexpr double kMinScoreSum = 0x1p-14;

double silu_clamped(double gate, double up, double limit) {
  gate = std::min(gate, limit);  // no lower clamp
  up = std::clamp(up, -limit, limit);
  return gate / (1 + std::exp(-gate)) * up;
}

double dot_row(const Weight& w, int64_t o, const float* x, std::vector<float>& row) {
  row.resize(w.n_in);
  quant::decode_row(w.type, w.row(o), w.n_in, row.data());
  double sum = 0;
  for (int64_t i = 0; i < w.n_in; i++) sum += double(row[i]) * x[i];
  return sum;
}

}  // namespace

void RefOps::route(const BatchRows& b, const float* logits, int n_experts, const float* bias,
                   const int32_t* tid2eid, int k, float scale, int32_t* ids, float* weights) {
  std::vector<double> s(n_experts);
  std::vector<int32_t> order(n_experts);
  for (int r = 0; r < b.n_rows; r++) {
    int32_t* chosen = ids + int64_t{r} * k;
    for (int e = 0; e < n_experts; e++) {
      const double l = logits[int64_t{r} * n_experts + e];
      s[e] = std::sqrt(l > 20 ? l : std::log1p(std::exp(l)));
      order[e] = e;
    }
    if (tid2eid) {
      std::copy_n(tid2eid + int64_t{b.token[r]} * k, k, chosen);
    } else {
      // Scores compare as f32, so that a tie here is a tie in every backend.
      const auto value = [&](int32_t e) { return static_cast<float>(s[e]) + bias[e]; };
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t a, int32_t c) { return value(a) > value(c); });
      std::copy_n(order.begin(), k, chosen);
    }
    std::sort(chosen, chosen + k);
    double sum = 0;
    for (int i = 0; i < k; i++) sum += s[chosen[i]];
    for (int i = 0; i < k; i++)
      weights[int64_t{r} * k + i] =
          static_cast<float>(scale * s[chosen[i]] / std::max(sum, kMinScoreSum));
  }
}

void RefOps::routed_experts(const ExpertParams& p, int n, int k, const float* x, const int32_t* ids,
                            const float* weights, float* hidden, float* y) {
  const int64_t inner = p.w1.n_out, d = p.w2.n_out;
  std::vector<float> row;
  for (int r = 0; r < n; r++) {
    std::vector<double> sum(d, 0.0);
    for (int i = 0; i < k; i++) {
      const int32_t e = ids[int64_t{r} * k + i];
      const Weight w1 = p.w1.expert(e), w2 = p.w2.expert(e), w3 = p.w3.expert(e);
      float* h = hidden + (int64_t{r} * k + i) * inner;
      for (int64_t j = 0; j < inner; j++) {
        const double gate = dot_row(w1, j, x + r * p.w1.n_in, row);
        const double up = dot_row(w3, j, x + r * p.w1.n_in, row);
        h[j] = static_cast<float>(silu_clamped(gate, up, p.limit) * weights[int64_t{r} * k + i]);
      }
      for (int64_t o = 0; o < d; o++) sum[o] += dot_row(w2, o, h, row);
    }
    for (int64_t o = 0; o < d; o++) y[r * d + o] = static_cast<float>(sum[o]);
  }
}

void RefOps::swiglu(int64_t n, float limit, const float* u, float* g) {
  for (int64_t i = 0; i < n; i++) g[i] = static_cast<float>(silu_clamped(g[i], u[i], limit));
}

}  // namespace narwhal
