#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/ref/ref_ops.h"

namespace narwhal {
namespace {

double sigmoid(double v) { return 1 / (1 + std::exp(-v)); }

// 1 / rms of the n_hc streams of one row taken as one vector.
double inverse_rms(const HcParams& p, const float* X) {
  double sum = 0;
  for (int64_t i = 0; i < p.n_hc * p.d; i++) sum += double(X[i]) * X[i];
  return 1 / std::sqrt(sum / double(p.n_hc * p.d) + p.rms_eps);
}

// Softmax over each row plus eps, then columns; then rows and columns in turn. Columns come last.
void sinkhorn(const HcParams& p, std::vector<double>& c) {
  const int H = p.n_hc;
  const auto at = [&](int j, int k) -> double& { return c[j * H + k]; };
  for (int j = 0; j < H; j++) {
    const double top = *std::max_element(&at(j, 0), &at(j, 0) + H);
    double sum = 0;
    for (int k = 0; k < H; k++) sum += at(j, k) = std::exp(at(j, k) - top);
    for (int k = 0; k < H; k++) at(j, k) = at(j, k) / sum + p.hc_eps;
  }
  for (int iteration = 0; iteration < p.sinkhorn_iterations; iteration++) {
    for (int j = 0; iteration > 0 && j < H; j++) {
      double sum = p.hc_eps;
      for (int k = 0; k < H; k++) sum += at(j, k);
      for (int k = 0; k < H; k++) at(j, k) /= sum;
    }
    for (int k = 0; k < H; k++) {
      double sum = p.hc_eps;
      for (int j = 0; j < H; j++) sum += at(j, k);
      for (int j = 0; j < H; j++) at(j, k) /= sum;
    }
  }
}

}  // namespace

void RefOps::hc_gates(const HcParams& p, int n, const float* X, float* mixes) {
  const int H = p.n_hc;
  std::vector<double> comb(H * H);
  for (int r = 0; r < n; r++) {
    float* m = mixes + int64_t{r} * p.n_mixes();
    const double scale = inverse_rms(p, X + r * p.n_hc * p.d);
    for (int h = 0; h < H; h++) {
      m[h] = static_cast<float>(sigmoid(m[h] * scale * p.scale[0] + p.base[h]) + p.hc_eps);
      m[H + h] = static_cast<float>(2 * sigmoid(m[H + h] * scale * p.scale[1] + p.base[H + h]));
    }
    for (int i = 0; i < H * H; i++) comb[i] = m[2 * H + i] * scale * p.scale[2] + p.base[2 * H + i];
    sinkhorn(p, comb);
    std::copy(comb.begin(), comb.end(), m + 2 * H);
  }
}

void RefOps::hc_head_gates(const HcParams& p, int n, const float* X, float* mixes) {
  for (int r = 0; r < n; r++) {
    const double scale = inverse_rms(p, X + r * p.n_hc * p.d);
    for (int h = 0; h < p.n_hc; h++) {
      float& m = mixes[r * p.n_hc + h];
      m = static_cast<float>(sigmoid(m * scale * p.scale[0] + p.base[h]) + p.hc_eps);
    }
  }
}

void RefOps::hc_sum(const HcParams& p, int n, const float* X, const float* gates, int stride,
                    float* x) {
  for (int r = 0; r < n; r++)
    for (int64_t i = 0; i < p.d; i++) {
      double sum = 0;
      for (int h = 0; h < p.n_hc; h++)
        sum += double(gates[int64_t{r} * stride + h]) * X[(int64_t{r} * p.n_hc + h) * p.d + i];
      x[r * p.d + i] = static_cast<float>(sum);
    }
}

void RefOps::hc_post(const HcParams& p, int n, const float* out, const float* gates, float* X) {
  const int H = p.n_hc;
  std::vector<double> next(H);
  for (int r = 0; r < n; r++) {
    const float* post = gates + int64_t{r} * p.n_mixes() + H;
    const float* comb = post + H;
    for (int64_t i = 0; i < p.d; i++) {
      const auto stream = [&](int h) -> float& { return X[(int64_t{r} * H + h) * p.d + i]; };
      for (int k = 0; k < H; k++) {
        next[k] = double(post[k]) * out[r * p.d + i];
        for (int j = 0; j < H; j++) next[k] += double(comb[j * H + k]) * stream(j);
      }
      for (int k = 0; k < H; k++) stream(k) = static_cast<float>(next[k]);
    }
  }
}

}  // namespace narwhal
