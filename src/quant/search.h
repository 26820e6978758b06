// The two scale searches that Q4_K, Q2_K and IQ2_XXS share, and their small helpers.
//
// Files made by the reference quantisers must come out byte for byte, so every F32 operation below
// happens in a fixed order (sums run over ascending i) and none may be contracted into an FMA.
// Four sub-blocks are fitted side by side in vector lanes; each lane keeps its own order.
// Pure functions; values that are not finite give unspecified results, never a crash.
#pragma once

#include <bit>
#include <cstdint>

namespace narwhal::quant {

inline constexpr int kMaxSubBlock = 32;

// Nearest integer, ties to even, for |v| < 2^22. Anything else gives some integer.
inline int nint(float v) {
  const int32_t bits = std::bit_cast<int32_t>(v + 0x1.8p23f);
  return (bits & 0x007fffff) - 0x00400000;
}

enum class ErrorNorm : uint8_t { kSquared, kAbsolute };

// Which candidate grids fit_scale_min tries: 1/step = (r_min + r_delta * k + n_max) / (max - min)
// for k = 0..n_steps.
struct FitGrid {
  int n;      // values of a sub-block, at most kMaxSubBlock
  int n_max;  // levels are 0..n_max
  float r_min, r_delta;
  int n_steps;
  ErrorNorm norm;
};

// For each of n_sub sub-blocks (x, w, levels: n_sub * n) finds scale and min, min <= 0, such that
// x ~ scale * level + min under weights w. Returns scales[n_sub] and mins[n_sub] = -min.
void fit_scale_min(const FitGrid& grid, int n_sub, const float* x, const float* w, uint8_t* levels,
                   float* scales, float* mins);

// The same without a minimum, for (mostly) non-negative x: x ~ scale * level. A negative x gets its
// negative level modulo 256, as the reference's bytes do.
void fit_scale(int n, int n_max, int n_sub, const float* x, const float* w, uint8_t* levels,
               float* scales);

// levels[n] for x ~ scale * level - min under the scales as stored. A zero scale keeps them.
void requantise(int n, int n_max, const float* x, float scale, float min, uint8_t* levels);

float sum_of_squares(const float* x, int n);

}  // namespace narwhal::quant
