// The FP8 element E4M3 and the block scale E8M0.
//
//   E4M3  s eeee mmm    bias 7; subnormals k * 2^-9; no infinities; max 448; 0x7F and 0xFF are NaN
//   E8M0  eeeeeeee      2^(e - 127); 0 means 2^-127; 255 is NaN
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <limits>

namespace narwhal::quant {

namespace detail {
constexpr std::array<float, 256> make_e4m3_values() {
  std::array<float, 256> values{};
  for (int code = 0; code < 256; ++code) {
    const int exponent = code >> 3 & 15;
    const int mantissa = code & 7;
    float v = static_cast<float>(exponent == 0 ? mantissa : 8 + mantissa) * 0x1p-9f;
    for (int i = 1; i < exponent; ++i) v *= 2;
    if ((code & 0x7f) == 0x7f) v = std::numeric_limits<float>::quiet_NaN();
    values[code] = code & 0x80 ? -v : v;
  }
  return values;
}
}  // namespace detail

inline constexpr std::array<float, 256> kE4m3Values = detail::make_e4m3_values();

inline float e4m3_to_f32(uint8_t code) { return kE4m3Values[code]; }

// Nearest, ties to the even code; clamps to +-448, infinities too. NaN becomes 0x7F.
inline uint8_t f32_to_e4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t sign = bits >> 24 & 0x80u;
  const uint32_t normal = (magnitude - (120u << 23) + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20;
  // The last place of 2^14 is 2^-9, the unit of a subnormal.
  const uint32_t small = magnitude < 0x3c800000u ? magnitude : 0u;
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(small) + 0x1p14f) - 0x46800000u;
  uint32_t code = magnitude < 0x3c800000u ? subnormal : normal;
  code = magnitude > 0x43e00000u ? 0x7eu : code;
  return magnitude > 0x7f800000u ? uint8_t{0x7f} : static_cast<uint8_t>(sign | code);
}

inline float e8m0_to_f32(uint8_t e) {
  const uint32_t normal = uint32_t{e} << 23;
  const uint32_t bits = e == 0 ? 0x00400000u : normal;
  return std::bit_cast<float>(e == 255 ? 0x7fc00000u : bits);
}

}  // namespace narwhal::quant
