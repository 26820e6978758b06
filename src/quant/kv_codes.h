// The rounding that the model was trained to live with: FP8 blocks on the unrotated part of every
// attention row, FP4 blocks on indexer queries and index rows after a Hadamard rotation. The codes
// are also how those rows are stored, so nothing is lost in the cache.
//
//   FP8 block   64 code bytes (E4M3)                          + 1 exponent byte (E8M0)
//   FP4 block   16 bytes, element 2i low nibble, 2i+1 high    + 1 exponent byte (E8M0)
//
//   uint8_t e = fp8_block_encode(x, codes);
//   fp8_block_decode(codes, e, x);           // x is now what the model attends to
//
// The scale is the smallest power of two under which no element exceeds the largest code (448, 6),
// for an amax of at least 1e-4 (FP8) and 6 * 2^-126 (FP4). Encoding a decoded block again gives
// the same values. A block holding a NaN or an infinity becomes exponent byte 255 and zero codes,
// and decodes to NaNs.
//
// Pure functions; no allocation. Any alignment of the codes; input and output must not overlap.
#pragma once

#include <cstdint>

namespace narwhal::quant {

inline constexpr int kFp8Block = 64;
inline constexpr int kFp4Block = 32;

// x[64] -> codes[64]; returns the exponent byte.
uint8_t fp8_block_encode(const float* x, uint8_t* codes);
void fp8_block_decode(const uint8_t* codes, uint8_t exponent, float* x);

// x[32] -> nibbles[16]; returns the exponent byte.
uint8_t fp4_block_encode(const float* x, uint8_t* nibbles);
void fp4_block_decode(const uint8_t* nibbles, uint8_t exponent, float* x);

// Walsh-Hadamard transform of x[d] in place, natural (Sylvester) order, times d^-0.5: its own
// inverse. d is a power of two.
void hadamard(float* x, int d);

}  // namespace narwhal::quant
