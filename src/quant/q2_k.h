// Q2_K: 16 sub-blocks of 16 two-bit values, each with a 4-bit scale and a 4-bit minimum; 256
// values in 84 bytes, 2.625 bits per value.
//
//   byte 0..15   s[16]       sub-block t: scale in bits 0..3, minimum in bits 4..7
//   byte 16..79  qs[64]      byte 32a + l: element 128a + 32k + l in bits 2k, 2k+1 (k = 0..3)
//   byte 80..81  d           F16, scale of the scales
//   byte 82..83  dmin        F16, scale of the minima
//
//   x = d * scale_t * q - dmin * min_t, t = element / 16
#pragma once

#include <cstdint>

#include "quant/q8_k.h"

namespace narwhal::quant {

struct BlockQ2K {
  uint8_t s[16];
  uint8_t qs[64];
  uint16_t d;
  uint16_t dmin;
};
static_assert(sizeof(BlockQ2K) == 84 && alignof(BlockQ2K) == 2);

void decode_q2_k(const BlockQ2K* src, int64_t n_blocks, float* dst);

// importance[256 * n_blocks] weighs the squared error of each column; null for the plain search.
void encode_q2_k(const float* src, int64_t n_blocks, const float* importance, BlockQ2K* dst);

float dot_q2_k(const BlockQ2K* w, const Q8K* x, int64_t n_blocks);

}  // namespace narwhal::quant
