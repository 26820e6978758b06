#include "quant/q2_k.h"

#include <algorithm>
#include <cmath>

#include "quant/f16.h"
#include "quant/search.h"

namespace narwhal::quant {
namespace {

constexpr int kSub = 16;     // sub-blocks of a block
constexpr int kValues = 16;  // values of a sub-block

// Every sub-block's 4-bit scale and minimum, the scales of those, and the levels they lead to.
struct Fit {
  uint8_t scale[kSub], min[kSub];
  float d, dmin;
  uint8_t levels[256];
};

// 4-bit codes of non-negative v[16] under the scale max / 15; returns that scale.
float code_by_max(const float* v, uint8_t* codes) {
  const float max = std::max(0.0f, *std::max_element(v, v + kSub));
  const float inverse = max > 0 ? 15.0f / max : 0.0f;
  for (int t = 0; t < kSub; ++t) codes[t] = nint(inverse * v[t]) & 15;
  return max / 15.0f;
}

Fit fit_plain(const float* x) {
  float w[256], scales[kSub], mins[kSub];
  for (int i = 0; i < 256; ++i) w[i] = std::fabs(x[i]);
  Fit fit = {};
  fit_scale_min({kValues, 3, -0.5f, 0.1f, 15, ErrorNorm::kAbsolute}, kSub, x, w, fit.levels, scales,
                mins);
  fit.d = code_by_max(scales, fit.scale);
  fit.dmin = code_by_max(mins, fit.min);
  return fit;
}

Fit fit_weighted(const float* x, const float* importance) {
  const float sigma2 = sum_of_squares(x, 256) / 256;
  float w[256], values[2][kSub], sums[2][kSub] = {};
  for (int i = 0; i < 256; ++i) w[i] = importance[i] * std::sqrt(sigma2 + x[i] * x[i]);
  for (int i = 0; i < 256; ++i) sums[0][i / kValues] += w[i];
  std::copy_n(sums[0], kSub, sums[1]);
  Fit fit = {};
  fit_scale_min({kValues, 3, -0.9f, 0.05f, 36, ErrorNorm::kSquared}, kSub, x, w, fit.levels,
                values[0], values[1]);
  uint8_t both[2 * kSub];
  float scales[2];
  fit_scale(kSub, 15, 2, values[0], sums[0], both, scales);
  for (int t = 0; t < kSub; ++t) {
    fit.scale[t] = both[t] & 15;
    fit.min[t] = both[kSub + t] & 15;
  }
  fit.d = scales[0];
  fit.dmin = scales[1];
  return fit;
}

void encode_block(const float* x, const float* importance, BlockQ2K* y) {
  Fit fit = importance ? fit_weighted(x, importance) : fit_plain(x);
  y->d = f32_to_f16(fit.d);
  y->dmin = f32_to_f16(fit.dmin);
  for (int t = 0; t < kSub; ++t) {
    y->s[t] = static_cast<uint8_t>(fit.scale[t] | fit.min[t] << 4);
    requantise(kValues, 3, x + kValues * t, f16_to_f32(y->d) * fit.scale[t],
               f16_to_f32(y->dmin) * fit.min[t], fit.levels + kValues * t);
  }
  for (int i = 0; i < 64; ++i) {
    const uint8_t* l = fit.levels + 128 * (i / 32) + i % 32;
    y->qs[i] = static_cast<uint8_t>(l[0] | l[32] << 2 | l[64] << 4 | l[96] << 6);
  }
}

}  // namespace

void decode_q2_k(const BlockQ2K* src, int64_t n_blocks, float* dst) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    const float d = f16_to_f32(src[b].d), dmin = f16_to_f32(src[b].dmin);
    for (int t = 0; t < kSub; ++t, dst += kValues) {
      const float scale = d * static_cast<float>(src[b].s[t] & 15);
      const float min = dmin * static_cast<float>(src[b].s[t] >> 4);
      const uint8_t* qs = src[b].qs + 32 * (t / 8) + 16 * (t % 2);
      const int shift = 2 * (t / 2 % 4);
      for (int l = 0; l < kValues; ++l)
        dst[l] = scale * static_cast<float>(qs[l] >> shift & 3) - min;
    }
  }
}

void encode_q2_k(const float* src, int64_t n_blocks, const float* importance, BlockQ2K* dst) {
  for (int64_t b = 0; b < n_blocks; ++b)
    encode_block(src + 256 * b, importance ? importance + 256 * b : nullptr, dst + b);
}

float dot_q2_k(const BlockQ2K* w, const Q8K* x, int64_t n_blocks) {
  float total = 0;
  for (int64_t b = 0; b < n_blocks; ++b) {
    int products = 0, minima = 0;
    for (int t = 0; t < kSub; ++t) {
      const uint8_t* qs = w[b].qs + 32 * (t / 8) + 16 * (t % 2);
      const int8_t* q8 = x[b].q + kValues * t;
      const int shift = 2 * (t / 2 % 4);
      int sum = 0;
      for (int l = 0; l < kValues; ++l) sum += (qs[l] >> shift & 3) * q8[l];
      products += (w[b].s[t] & 15) * sum;
      minima += (w[b].s[t] >> 4) * x[b].bsum[t];
    }
    const float d = x[b].d * f16_to_f32(w[b].d), dmin = x[b].d * f16_to_f32(w[b].dmin);
    total += d * static_cast<float>(products) - dmin * static_cast<float>(minima);
  }
  return total;
}

}  // namespace narwhal::quant
