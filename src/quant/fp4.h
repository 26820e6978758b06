// The FP4 element E2M1: a sign bit (8) and a magnitude code for 0, 0.5, 1, 1.5, 2, 3, 4, 6.
// Code 8 is minus zero.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace narwhal::quant {

inline constexpr std::array<float, 16> kE2m1Values = {
    0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,   //
    -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f,  //
};

inline float e2m1_to_f32(uint32_t nibble) { return kE2m1Values[nibble & 15]; }

// Nearest, ties to the even code; clamps to +-6. NaN becomes a zero of its sign.
inline uint8_t f32_to_e2m1(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const float a = std::bit_cast<float>(bits & 0x7fffffffu);
  // Code = how many midpoints lie below; a midpoint itself belongs to its even neighbour.
  const int code = (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) +
                   (a >= 3.5f) + (a > 5.0f);
  return static_cast<uint8_t>((bits >> 28 & 8u) | static_cast<uint32_t>(code));
}

}  // namespace narwhal::quant
