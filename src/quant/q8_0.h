// Q8_0: 32 signed bytes under one half-precision scale, 34 bytes, 8.5 bits per value.
//
//   byte 0..1   d           F16
//   byte 2..33  q[32]       i8
//
//   x_i = d * q_i
#pragma once

#include <cstdint>

namespace narwhal::quant {

struct BlockQ8_0 {
  uint16_t d;
  int8_t q[32];
};
static_assert(sizeof(BlockQ8_0) == 34 && alignof(BlockQ8_0) == 2);

void decode_q8_0(const BlockQ8_0* src, int64_t n_blocks, float* dst);

// d = amax / 127; q rounds half away from zero and uses d before its rounding to F16.
void encode_q8_0(const float* src, int64_t n_blocks, BlockQ8_0* dst);

}  // namespace narwhal::quant
