// IEEE half precision (F16) and bfloat16 (BF16), by bit manipulation: the same on every machine.
//
//   F16   s eeeee mmmmmmmmmm    bias 15; subnormals k * 2^-24; max 65504
//   BF16  s eeeeeeee mmmmmmm    the upper half of an F32
//
// Widening is exact. Narrowing rounds to nearest, ties to even; overflow becomes infinity. A NaN
// stays a NaN with the upper bits of its payload. The functions hold no data-dependent branch, so
// loops over them vectorise. They rely on the default rounding mode and on subnormals being kept.
#pragma once

#include <bit>
#include <cstdint>

namespace narwhal::quant {

namespace detail {
// By masks: compilers do not if-convert a ?: with floating arithmetic in an arm, which would keep
// the loops scalar.
inline uint32_t select(bool condition, uint32_t yes, uint32_t no) {
  const uint32_t mask = 0u - static_cast<uint32_t>(condition);
  return (yes & mask) | (no & ~mask);
}
}  // namespace detail

inline float f16_to_f32(uint16_t h) {
  const uint32_t exponent = h & 0x7c00u;
  const uint32_t mantissa = h & 0x03ffu;
  // Rebias from 15 to 127; infinities and NaNs need the step twice to reach exponent 255.
  const uint32_t rebias = exponent == 0x7c00u ? 224u << 23 : 112u << 23;
  const uint32_t normal = ((exponent | mantissa) << 13) + rebias;
  // The last place of 0.5 is 2^-24, the unit of an F16 subnormal.
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(0x3f000000u | mantissa) - 0.5f);
  const uint32_t sign = (h & 0x8000u) << 16;
  return std::bit_cast<float>(sign | detail::select(exponent == 0, subnormal, normal));
}

inline uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  // Adding 0.5 makes the adder round at 2^-24.
  const uint32_t small = detail::select(magnitude < 0x38800000u, magnitude, 0);
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(small) + 0.5f) - 0x3f000000u;
  const uint32_t payload = magnitude >> 13 & 0x03ffu;
  const uint32_t nan = 0x7c00u | (payload != 0 ? payload : 0x0200u);
  uint32_t code = detail::select(magnitude < 0x38800000u, subnormal, normal);
  code = detail::select(magnitude >= 0x477ff000u, 0x7c00u, code);  // 65520 and above
  code = detail::select(magnitude > 0x7f800000u, nan, code);
  return static_cast<uint16_t>(sign | code);
}

inline float bf16_to_f32(uint16_t h) { return std::bit_cast<float>(uint32_t{h} << 16); }

inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const uint32_t truncated = bits >> 16;
  const uint32_t nan = (truncated & 0x7fu) != 0 ? truncated : truncated | 0x40u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

}  // namespace narwhal::quant
