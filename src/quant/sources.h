// Weights as the published checkpoint stores them, one row of n values at a time.
//
//   FP8   one E4M3 byte per value; one E8M0 scale per 128 x 128 tile:
//         W[r][c] = e4m3(w[r][c]) * 2^(S[r/128][c/128] - 127)
//   FP4   two values per byte, element 2b in the low nibble of byte b, 2b+1 in the high one; one
//         E8M0 scale per 32 values of a row:  W[r][c] = fp4 * 2^(S[r][c/32] - 127)
//
//   NW_TRY(decode_fp8_row(w + r * n, s + r / 128 * ceil_div(n, 128), n, dst));
//
// Every product is exact. A NaN scale (255), a NaN code or an overflow is a fault of the file:
// kBadInput naming the column; what was written is then unspecified. Pure functions.
#pragma once

#include <cstdint>

#include "narwhal/status.h"

namespace narwhal::quant {

// codes[n], scales[ceil(n / 128)] -> dst[n].
Status decode_fp8_row(const uint8_t* codes, const uint8_t* scales, int64_t n, float* dst);

// packed[n / 2], scales[n / 32] -> dst[n]. n is a multiple of 32.
Status decode_fp4_row(const uint8_t* packed, const uint8_t* scales, int64_t n, float* dst);

// The same row as n / 32 MXFP4 blocks, without loss: only the nibbles change places.
Status repack_fp4_row(const uint8_t* packed, const uint8_t* scales, int64_t n, void* mxfp4);

}  // namespace narwhal::quant
