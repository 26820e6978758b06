// Number codes on the device: BF16, E4M3, E2M1, E8M0 (quant/f16.h, fp8.h, fp4.h say what they are).
// Nothing here makes a subnormal float: some GPUs flush them.
#pragma once

#include "kernels/portable.h"

namespace narwhal {
namespace kernels {

k_fn float bf16_to_f32(uint16_t h) { return k_float(uint32_t(h) << 16); }

k_fn uint16_t f32_to_bf16(float x) {
  const uint32_t bits = k_bits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return uint16_t((bits >> 16 & 0x7fu) != 0 ? bits >> 16 : bits >> 16 | 0x40u);
  return uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

k_fn float e4m3_to_f32(uint32_t code) {
  const uint32_t magnitude = code & 0x7fu, sign = (code & 0x80u) << 24;
  const uint32_t normal = (magnitude << 20) + (120u << 23);
  const uint32_t small = k_bits(float(magnitude) * 0.001953125f);  // 2^-9
  return k_float(sign | (magnitude < 8u ? small : normal));
}

k_fn uint32_t f32_to_e4m3(float x) {  // finite x
  const uint32_t bits = k_bits(x), magnitude = bits & 0x7fffffffu, sign = bits >> 24 & 0x80u;
  const uint32_t normal = (magnitude - (120u << 23) + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20;
  // The last place of 2^14 is 2^-9, the unit of a subnormal code.
  const uint32_t small = magnitude < 0x3c800000u ? magnitude : 0u;
  const uint32_t subnormal = k_bits(k_float(small) + 16384.0f) - 0x46800000u;
  const uint32_t code = magnitude < 0x3c800000u ? subnormal : normal;
  return sign | (magnitude > 0x43e00000u ? 0x7eu : code);
}

k_fn float e2m1_to_f32(uint32_t nibble) {
  const uint32_t m = nibble & 7u, sign = (nibble & 8u) << 28;
  // 0, 0.5, then 1 + mantissa / 2 under exponents 0 to 2.
  const uint32_t normal = (126u << 23) + (m << 22);
  return k_float(sign | (m == 0u ? 0u : m == 1u ? 0x3f000000u : normal));
}

k_fn uint32_t f32_to_e2m1(float x) {
  const uint32_t bits = k_bits(x);
  const float a = k_float(bits & 0x7fffffffu);
  const uint32_t code = uint32_t(a > 0.25f) + uint32_t(a >= 0.75f) + uint32_t(a > 1.25f) +
                        uint32_t(a >= 1.75f) + uint32_t(a > 2.5f) + uint32_t(a >= 3.5f) +
                        uint32_t(a > 5.0f);
  return (bits >> 28 & 8u) | code;
}

k_fn float e8m0_to_f32(uint32_t e) {
  return k_float(e == 0u ? 0x00400000u : e == 255u ? 0x7fc00000u : e << 23);
}

// E8M0 code of 2^ceil(log2(v)) for a normal v > 0 given as bits; 255 for infinity and NaN.
k_fn uint32_t ceil_exponent(float v) {
  const uint32_t bits = k_bits(v), e = (bits >> 23) + uint32_t((bits & 0x7fffffu) != 0u);
  return e < 255u ? e : 255u;
}

k_fn float inverse_scale(uint32_t e) { return k_float((254u - e) << 23); }

// Eight E4M3 codes times the power of two 2^(scale - 127), as halves: exact from 2^-24 to 57344,
// where scales end.
k_fn void fp8_halves(uint32_t low, uint32_t high, uint32_t scale, k_private uint32_t* out) {
  // As the upper bits of a half, a code is too small by 2^8.
  const uint32_t exponent = uint32_t(min_int(max_int(int(scale) - 104, 0), 30));
  const uint32_t factor = (scale == 255u ? 0x7e00u : exponent << 10) * 0x10001u;
  k_unroll for (int i = 0; i < 4; i++) {
    const uint32_t both = k_permute(i < 2 ? low : high, 0u, i % 2 == 0 ? 0x1404u : 0x3424u);
    out[i] = k_half2_mul((both >> 1 & 0x3f803f80u) | (both & 0x80008000u), factor);
  }
}

}  // namespace kernels
}  // namespace narwhal
