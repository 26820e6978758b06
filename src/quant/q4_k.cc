#include "quant/q4_k.h"

#include <algorithm>
#include <cmath>

#include "quant/f16.h"
#include "quant/search.h"

namespace narwhal::quant {
namespace {

constexpr int kSub = 8;      // sub-blocks of a block
constexpr int kValues = 32;  // values of a sub-block

struct SubScales {
  uint8_t scale[kSub], min[kSub];
};

SubScales unpack(const uint8_t* s) {
  SubScales out;
  for (int j = 0; j < 4; ++j) {
    out.scale[j] = s[j] & 63;
    out.min[j] = s[j + 4] & 63;
    out.scale[j + 4] = static_cast<uint8_t>((s[j + 8] & 15) | s[j] >> 6 << 4);
    out.min[j + 4] = static_cast<uint8_t>(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
  }
  return out;
}

void pack(const SubScales& in, uint8_t* s) {
  for (int j = 0; j < 4; ++j) {
    const int scale = in.scale[j + 4], min = in.min[j + 4];
    s[j] = static_cast<uint8_t>(in.scale[j] | scale >> 4 << 6);
    s[j + 4] = static_cast<uint8_t>(in.min[j] | min >> 4 << 6);
    s[j + 8] = static_cast<uint8_t>((scale & 15) | (min & 15) << 4);
  }
}

// Every sub-block's scale and minimum for 256 values, and the levels they lead to.
struct Fit {
  float scale_and_min[2][kSub];
  float weight_sum[2][kSub];  // the same sums twice: scales and minima are fitted in one call
  uint8_t levels[256];
};

Fit fit_plain(const float* x) {
  float w[256];
  for (int j = 0; j < kSub; ++j) {
    const float* xs = x + kValues * j;
    float sum = 0;
    for (int i = 0; i < kValues; ++i) sum += xs[i] * xs[i];
    const float rms = std::sqrt(sum / kValues);
    for (int i = 0; i < kValues; ++i) w[kValues * j + i] = rms + std::fabs(xs[i]);
  }
  Fit fit = {};
  fit_scale_min({kValues, 15, -1.0f, 0.1f, 20, ErrorNorm::kSquared}, kSub, x, w, fit.levels,
                fit.scale_and_min[0], fit.scale_and_min[1]);
  return fit;
}

Fit fit_weighted(const float* x, const float* importance) {
  const float sigma2 = 2 * sum_of_squares(x, 256) / 256;
  float w[256];
  for (int i = 0; i < 256; ++i) w[i] = importance[i] * std::sqrt(sigma2 + x[i] * x[i]);
  Fit fit = {};
  for (int i = 0; i < 256; ++i) fit.weight_sum[0][i / kValues] += w[i];
  std::copy_n(fit.weight_sum[0], kSub, fit.weight_sum[1]);
  fit_scale_min({kValues, 15, -0.9f, 0.05f, 36, ErrorNorm::kSquared}, kSub, x, w, fit.levels,
                fit.scale_and_min[0], fit.scale_and_min[1]);
  return fit;
}

// 6-bit codes of non-negative v[8] under the scale max / 63; returns that scale.
float code_by_max(const float* v, uint8_t* codes) {
  const float max = std::max(0.0f, *std::max_element(v, v + kSub));
  const float inverse = max > 0 ? 63.0f / max : 0.0f;
  for (int j = 0; j < kSub; ++j)
    codes[j] = std::min(uint8_t{63}, static_cast<uint8_t>(nint(inverse * v[j])));
  return max / 63.0f;
}

void encode_block(const float* x, const float* importance, BlockQ4K* y) {
  Fit fit = importance ? fit_weighted(x, importance) : fit_plain(x);
  SubScales codes;
  float d, dmin;
  if (importance) {
    uint8_t both[2 * kSub];
    float scales[2];
    fit_scale(kSub, 63, 2, fit.scale_and_min[0], fit.weight_sum[0], both, scales);
    for (int j = 0; j < kSub; ++j) {
      codes.scale[j] = both[j] & 63;
      codes.min[j] = both[kSub + j] & 63;
    }
    d = scales[0];
    dmin = scales[1];
  } else {
    d = code_by_max(fit.scale_and_min[0], codes.scale);
    dmin = code_by_max(fit.scale_and_min[1], codes.min);
  }
  y->d = f32_to_f16(d);
  y->dmin = f32_to_f16(dmin);
  pack(codes, y->s);

  for (int j = 0; j < kSub; ++j)
    requantise(kValues, 15, x + kValues * j, f16_to_f32(y->d) * codes.scale[j],
               f16_to_f32(y->dmin) * codes.min[j], fit.levels + kValues * j);
  for (int p = 0; p < 4; ++p)
    for (int l = 0; l < 32; ++l)
      y->qs[32 * p + l] =
          static_cast<uint8_t>(fit.levels[64 * p + l] | fit.levels[64 * p + 32 + l] << 4);
}

}  // namespace

void decode_q4_k(const BlockQ4K* src, int64_t n_blocks, float* dst) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    const BlockQ4K& w = src[b];
    const SubScales codes = unpack(w.s);
    const float d = f16_to_f32(w.d), dmin = f16_to_f32(w.dmin);
    for (int j = 0; j < kSub; ++j, dst += kValues) {
      const float scale = d * codes.scale[j], min = dmin * codes.min[j];
      const uint8_t* qs = w.qs + 32 * (j / 2);
      const int shift = 4 * (j % 2);
      for (int l = 0; l < kValues; ++l)
        dst[l] = scale * static_cast<float>(qs[l] >> shift & 15) - min;
    }
  }
}

void encode_q4_k(const float* src, int64_t n_blocks, const float* importance, BlockQ4K* dst) {
  for (int64_t b = 0; b < n_blocks; ++b)
    encode_block(src + 256 * b, importance ? importance + 256 * b : nullptr, dst + b);
}

float dot_q4_k(const BlockQ4K* w, const Q8K* x, int64_t n_blocks) {
  float total = 0;
  for (int64_t b = 0; b < n_blocks; ++b) {
    const SubScales codes = unpack(w[b].s);
    int products = 0, minima = 0;
    for (int j = 0; j < kSub; ++j) {
      const uint8_t* qs = w[b].qs + 32 * (j / 2);
      const int8_t* q8 = x[b].q + kValues * j;
      int sum = 0;
      for (int l = 0; l < kValues; ++l) sum += (qs[l] >> 4 * (j % 2) & 15) * q8[l];
      products += codes.scale[j] * sum;
      minima += codes.min[j] * (x[b].bsum[2 * j] + x[b].bsum[2 * j + 1]);
    }
    const float d = x[b].d * f16_to_f32(w[b].d), dmin = x[b].d * f16_to_f32(w[b].dmin);
    total += d * static_cast<float>(products) - dmin * static_cast<float>(minima);
  }
  return total;
}

}  // namespace narwhal::quant
