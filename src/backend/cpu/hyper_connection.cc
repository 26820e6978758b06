#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_ops.h"

namespace narwhal {
namespace {

float sigmoid(float v) { return 1 / (1 + std::exp(-v)); }

float inverse_rms(const cpu::Kernels& kernels, const HcParams& p, const float* X) {
  const int64_t n = p.n_hc * p.d;
  return 1 / std::sqrt(kernels.dot(X, X, n) / static_cast<float>(n) + p.rms_eps);
}

// comb [H][H] in place: row softmax + eps, columns; then rows and columns alternate, columns last.
void sinkhorn(const HcParams& p, float* comb) {
  const int H = p.n_hc;
  for (int j = 0; j < H; j++) {
    float* row = comb + j * H;
    const float top = *std::max_element(row, row + H);
    float sum = 0;
    for (int k = 0; k < H; k++) sum += row[k] = std::exp(row[k] - top);
    for (int k = 0; k < H; k++) row[k] = row[k] / sum + p.hc_eps;
  }
  for (int iteration = 0; iteration < p.sinkhorn_iterations; iteration++) {
    for (int j = 0; iteration > 0 && j < H; j++) {
      float sum = p.hc_eps;
      for (int k = 0; k < H; k++) sum += comb[j * H + k];
      for (int k = 0; k < H; k++) comb[j * H + k] /= sum;
    }
    for (int k = 0; k < H; k++) {
      float sum = p.hc_eps;
      for (int j = 0; j < H; j++) sum += comb[j * H + k];
      for (int j = 0; j < H; j++) comb[j * H + k] /= sum;
    }
  }
}

}  // namespace

void CpuOps::hc_gates(const HcParams& p, int n, const float* X, float* mixes) {
  const int H = p.n_hc;
  each_row(n, H * p.d + 1000, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      float* m = mixes + r * p.n_mixes();
      const float scale = inverse_rms(kernels_, p, X + r * H * p.d);
      for (int h = 0; h < H; h++) m[h] = sigmoid(m[h] * scale * p.scale[0] + p.base[h]) + p.hc_eps;
      for (int h = H; h < 2 * H; h++) m[h] = 2 * sigmoid(m[h] * scale * p.scale[1] + p.base[h]);
      for (int i = 2 * H; i < p.n_mixes(); i++) m[i] = m[i] * scale * p.scale[2] + p.base[i];
      sinkhorn(p, m + 2 * H);
    }
  });
}

void CpuOps::hc_head_gates(const HcParams& p, int n, const float* X, float* mixes) {
  for (int r = 0; r < n; r++) {
    const float scale = inverse_rms(kernels_, p, X + r * p.n_hc * p.d);
    float* m = mixes + r * p.n_hc;
    for (int h = 0; h < p.n_hc; h++)
      m[h] = sigmoid(m[h] * scale * p.scale[0] + p.base[h]) + p.hc_eps;
  }
}

void CpuOps::hc_sum(const HcParams& p, int n, const float* X, const float* gates, int stride,
                    float* x) {
  each_row(n, p.n_hc * p.d, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      kernels_.hc_sum(X + r * p.n_hc * p.d, gates + r * stride, p.n_hc, p.d, x + r * p.d);
    }
  });
}

void CpuOps::hc_post(const HcParams& p, int n, const float* out, const float* gates, float* X) {
  const int H = p.n_hc;
  each_row(n, H * H * p.d, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      const float* post = gates + r * p.n_mixes() + H;
      kernels_.hc_post(out + r * p.d, post, post + H, H, p.d, X + r * H * p.d);
    }
  });
}

}  // namespace narwhal
