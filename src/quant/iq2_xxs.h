// IQ2_XXS: 256 values in 66 bytes, 2.0625 bits per value. Each 8 values are one of 256 grid vectors
// with an even number of its signs flipped.
//
//   byte 0..1    d         F16
//   byte 2..65   qs[32]    8 groups of 32 values, 8 bytes (4 u16) each:
//                            byte 0..3   grid index of sub-vector t = 0..3
//                            byte 4..7   u32: bits 7t..7t+6 sign index of sub-vector t,
//                                        bits 28..31 group scale ls
//
//   x[32g + 8t + i] = d * (0.5 + ls) * 0.25 * grid[index_t].byte[i] * (bit i of signs[sign_t]
//                     ? -1 : 1)
//
// A grid vector holds 8 bytes, each 8, 25 or 43, about 8.5 * (2c + 1) for its code c = 0, 1, 2.
// A sign index gives the first seven signs; the eighth makes the number of minus signs even.
#pragma once

#include <array>
#include <cstdint>

#include "quant/q8_k.h"

namespace narwhal::quant {

struct BlockIQ2XXS {
  uint16_t d;
  uint16_t qs[32];
};
static_assert(sizeof(BlockIQ2XXS) == 66 && alignof(BlockIQ2XXS) == 2);

// Byte i of an entry = bits 8i..8i+7. Codes ascend when read with element 0 as the lowest digit.
extern const std::array<uint64_t, 256> kIq2XxsGrid;

// The eight sign bits of a sign index.
constexpr uint8_t iq2_xxs_signs(uint32_t index) {
  uint32_t parity = index ^ index >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return static_cast<uint8_t>((index & 127) | (parity & 1) << 7);
}

void decode_iq2_xxs(const BlockIQ2XXS* src, int64_t n_blocks, float* dst);

// importance[256 * n_blocks] >= 0 weighs the squared error of each column; this format needs it.
// The first call builds the table of grid neighbours (once, thread-safe, some milliseconds).
void encode_iq2_xxs(const float* src, int64_t n_blocks, const float* importance, BlockIQ2XXS* dst);

float dot_iq2_xxs(const BlockIQ2XXS* w, const Q8K* x, int64_t n_blocks);

}  // namespace narwhal::quant
