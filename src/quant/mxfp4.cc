#include "quant/mxfp4.h"

#include "quant/fp4.h"
#include "quant/fp8.h"
#include "quant/kv_codes.h"

namespace narwhal::quant {

BlockMXFP4 mxfp4_from_adjacent(const uint8_t* adjacent, uint8_t e) {
  BlockMXFP4 block{e, {}};
  const auto element = [&](int i) { return adjacent[i / 2] >> 4 * (i % 2) & 15; };
  for (int j = 0; j < 16; ++j)
    block.qs[j] = static_cast<uint8_t>(element(j) | element(16 + j) << 4);
  return block;
}

void decode_mxfp4(const BlockMXFP4* src, int64_t n_blocks, float* dst) {
  for (int64_t b = 0; b < n_blocks; ++b, dst += 32) {
    const float scale = e8m0_to_f32(src[b].e);
    for (int j = 0; j < 16; ++j) dst[j] = e2m1_to_f32(src[b].qs[j]) * scale;
    for (int j = 0; j < 16; ++j) dst[16 + j] = e2m1_to_f32(src[b].qs[j] >> 4) * scale;
  }
}

void encode_mxfp4(const float* src, int64_t n_blocks, BlockMXFP4* dst) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    uint8_t adjacent[16];
    const uint8_t e = fp4_block_encode(src + 32 * b, adjacent);
    dst[b] = mxfp4_from_adjacent(adjacent, e);
  }
}

}  // namespace narwhal::quant
