// Q8_K: 256 activations as signed bytes, 292 bytes. Lives in memory only; the integer dot products
// of the K formats and IQ2_XXS read it.
//
//   byte 0..3      d          F32
//   byte 4..259    q[256]     i8
//   byte 260..291  bsum[16]   i16, sum of q over elements 16j .. 16j+15
//
//   x_i = d * q_i
//
// The element of largest magnitude (the first of equals) becomes -127, so d carries its sign.
#pragma once

#include <cstdint>

namespace narwhal::quant {

struct Q8K {
  float d;
  int8_t q[256];
  int16_t bsum[16];
};
static_assert(sizeof(Q8K) == 292);

// src[256 * n_blocks]. A block of zeros, or so small that its scale would overflow, is all zero.
void encode_q8_k(const float* src, int64_t n_blocks, Q8K* dst);
void decode_q8_k(const Q8K* src, int64_t n_blocks, float* dst);

}  // namespace narwhal::quant
