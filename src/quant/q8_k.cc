#include "quant/q8_k.h"

#include <algorithm>
#include <cmath>

#include "quant/search.h"

namespace narwhal::quant {
namespace {

void encode_block(const float* x, Q8K* y) {
  *y = {};
  float extreme = 0;
  for (int i = 0; i < 256; ++i)
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  const float inverse = -127.0f / extreme;
  if (extreme == 0 || !std::isfinite(inverse)) return;
  for (int i = 0; i < 256; ++i)
    y->q[i] = static_cast<int8_t>(std::clamp(nint(inverse * x[i]), -127, 127));
  for (int i = 0; i < 256; ++i) y->bsum[i / 16] = static_cast<int16_t>(y->bsum[i / 16] + y->q[i]);
  y->d = 1.0f / inverse;
}

}  // namespace

void encode_q8_k(const float* src, int64_t n_blocks, Q8K* dst) {
  for (int64_t b = 0; b < n_blocks; ++b) encode_block(src + 256 * b, dst + b);
}

void decode_q8_k(const Q8K* src, int64_t n_blocks, float* dst) {
  for (int64_t b = 0; b < n_blocks; ++b, dst += 256)
    for (int i = 0; i < 256; ++i) dst[i] = src[b].d * static_cast<float>(src[b].q[i]);
}

}  // namespace narwhal::quant
