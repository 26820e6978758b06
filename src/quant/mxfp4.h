// MXFP4: 32 FP4 values under one power-of-two scale, 17 bytes, 4.25 bits per value.
//
//   byte 0     e            E8M0 scale 2^(e - 127)
//   byte 1..16 qs[16]       qs[j]: element j in the low nibble, element 16 + j in the high one
//
//   x = fp4(nibble) * 2^(e - 127); e = 255 decodes to NaN.
#pragma once

#include <cstdint>

namespace narwhal::quant {

struct BlockMXFP4 {
  uint8_t e;
  uint8_t qs[16];
};
static_assert(sizeof(BlockMXFP4) == 17 && alignof(BlockMXFP4) == 1);

// The block whose element 2i is the low nibble of adjacent[i] and 2i + 1 the high one.
BlockMXFP4 mxfp4_from_adjacent(const uint8_t* adjacent, uint8_t e);

void decode_mxfp4(const BlockMXFP4* src, int64_t n_blocks, float* dst);

// Nearest FP4 values under the smallest scale that clips none (kv_codes.h, fp4_block_encode).
void encode_mxfp4(const float* src, int64_t n_blocks, BlockMXFP4* dst);

}  // namespace narwhal::quant
