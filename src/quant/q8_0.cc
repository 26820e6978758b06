#include "quant/q8_0.h"

#include <algorithm>
#include <cmath>

#include "quant/f16.h"

namespace narwhal::quant {

void decode_q8_0(const BlockQ8_0* src, int64_t n_blocks, float* dst) {
  for (int64_t b = 0; b < n_blocks; ++b, dst += 32) {
    const float d = f16_to_f32(src[b].d);
    for (int i = 0; i < 32; ++i) dst[i] = d * static_cast<float>(src[b].q[i]);
  }
}

void encode_q8_0(const float* src, int64_t n_blocks, BlockQ8_0* dst) {
  for (int64_t b = 0; b < n_blocks; ++b, src += 32) {
    float amax = 0;
    for (int i = 0; i < 32; ++i) amax = std::max(amax, std::fabs(src[i]));
    const float d = amax / 127.0f;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    dst[b].d = f32_to_f16(d);
    for (int i = 0; i < 32; ++i) {
      const float q = std::round(src[i] * inverse);
      // Out of range only for values that are not finite or so small that 1/d overflows.
      dst[b].q[i] = std::fabs(q) <= 127.0f ? static_cast<int8_t>(q) : int8_t{0};
    }
  }
}

}  // namespace narwhal::quant
