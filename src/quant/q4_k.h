// Q4_K: 8 sub-blocks of 32 four-bit values, each with a 6-bit scale and a 6-bit minimum; 256
// values in 144 bytes, 4.5 bits per value.
//
//   byte 0..1     d           F16, scale of the scales
//   byte 2..3     dmin        F16, scale of the minima
//   byte 4..15    s[12]       6-bit scales sc_j and minima m_j:
//                               j < 4   s[j]   : sc_j      in bits 0..5, sc_{j+4} bits 4..5 in 6..7
//                                       s[j+4] : m_j       in bits 0..5, m_{j+4}  bits 4..5 in 6..7
//                                       s[j+8] : sc_{j+4}  bits 0..3 in 0..3, m_{j+4} bits 0..3
//                                                in 4..7
//   byte 16..143  qs[128]     byte 32p + l: element 64p + l in the low nibble (sub-block 2p),
//                             element 64p + 32 + l in the high one (sub-block 2p + 1)
//
//   x = d * sc_j * q - dmin * m_j
#pragma once

#include <cstdint>

#include "quant/q8_k.h"

namespace narwhal::quant {

struct BlockQ4K {
  uint16_t d;
  uint16_t dmin;
  uint8_t s[12];
  uint8_t qs[128];
};
static_assert(sizeof(BlockQ4K) == 144 && alignof(BlockQ4K) == 2);

void decode_q4_k(const BlockQ4K* src, int64_t n_blocks, float* dst);

// importance[256 * n_blocks] weighs the squared error of each column; null for the plain search.
void encode_q4_k(const float* src, int64_t n_blocks, const float* importance, BlockQ4K* dst);

float dot_q4_k(const BlockQ4K* w, const Q8K* x, int64_t n_blocks);

}  // namespace narwhal::quant
