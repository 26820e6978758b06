// What the vocabulary has in common on CUDA and HIP.
#pragma once

namespace narwhal {
namespace kernels {

k_value bool kLargeShared = true;  // 48 KiB of shared memory for a group, else 32
// Rows of a matrix tile (tile.h), where there are many rows and where few.
k_value int kTileTokens = 128, kFewTileTokens = 64;

k_fn float k_float(uint32_t bits) { return __uint_as_float(bits); }
k_fn uint32_t k_bits(float f) { return __float_as_uint(f); }
k_fn float k_sqrt(float x) { return sqrtf(x); }
k_fn float k_exp(float x) { return expf(x); }
k_fn float k_log(float x) { return logf(x); }
k_fn float k_fma(float a, float b, float c) { return fmaf(a, b, c); }
k_fn float k_mad(float a, float b, float c) { return fmaf(a, b, c); }
k_fn float k_abs(float x) { return fabsf(x); }

// 1.5 * 2^23 + x has x, rounded, as its last bits: two quick operations for a slow conversion.
k_fn int k_round(float x) { return __float_as_int(x + 12582912.0f) - 0x4b400000; }

struct Word4 {
  uint32_t v[4];
};
k_fn Word4 k_load4(const void* p) {
  const uint4 u = *reinterpret_cast<const uint4*>(p);
  return {{u.x, u.y, u.z, u.w}};
}
k_fn void k_store4(void* p, const Word4& w) {
  *reinterpret_cast<uint4*>(p) = make_uint4(w.v[0], w.v[1], w.v[2], w.v[3]);
}

k_fn void k_load8(const uint8_t* p, uint32_t* low, uint32_t* high) {
  const auto at = reinterpret_cast<uintptr_t>(p);
  const uint32_t* const words = reinterpret_cast<const uint32_t*>(at & ~uintptr_t{3});
  const auto shift = static_cast<unsigned>(at & 3) * 8;
  const uint32_t a = words[0], b = words[1], c = words[shift == 0 ? 1 : 2];
  *low = __funnelshift_r(a, b, shift);
  *high = __funnelshift_r(b, c, shift);
}

using k_atomic = uint32_t;
k_fn void k_atomic_zero(k_atomic* a) { *a = 0; }
k_fn uint32_t k_atomic_add(k_atomic* a, uint32_t v) { return atomicAdd(a, v); }
k_fn uint32_t k_atomic_get(k_atomic* a) { return *a; }

}  // namespace kernels
}  // namespace narwhal

#include "kernels/portable_frags.h"
