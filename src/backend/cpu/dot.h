// Dot products with a fixed order of additions: 16 running sums, then a tree. The order is part of
// the contract (the same row gives the same bits in any batch), so there is one definition.
#pragma once

#include <cstdint>

namespace narwhal {

inline constexpr int kLanes = 16;

inline float sum_lanes(const float (&lane)[kLanes]) {
  float s[kLanes / 2];
  for (int i = 0; i < 8; i++) s[i] = lane[i] + lane[i + 8];
  for (int i = 0; i < 4; i++) s[i] += s[i + 4];
  return (s[0] + s[2]) + (s[1] + s[3]);
}

// out[j] = a[j] . x for N rows `a` that lie `stride` apart; x is read once.
template <int N>
inline void dot_rows(const float* a, int64_t stride, const float* x, int64_t n, float* out) {
  float lane[N][kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < N; j++)
      for (int l = 0; l < kLanes; l++) lane[j][l] += a[j * stride + i + l] * x[i + l];
  for (; i < n; i++)
    for (int j = 0; j < N; j++) lane[j][i % kLanes] += a[j * stride + i] * x[i];
  for (int j = 0; j < N; j++) out[j] = sum_lanes(lane[j]);
}

inline float dot(const float* a, const float* x, int64_t n) {
  float out = 0;
  dot_rows<1>(a, 0, x, n, &out);
  return out;
}

inline float sum_squares(const float* x, int64_t n) { return dot(x, x, n); }

}  // namespace narwhal
