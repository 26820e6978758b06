// Number formats: rows of any float-like type to F32 and back, and integer dot products.
//
//   std::vector<std::byte> row(row_bytes(DType::kQ4_K, n));
//   encode_row(DType::kQ4_K, x, n, nullptr, row.data());
//   decode_row(DType::kQ4_K, row.data(), n, y);
//
// Layouts are drawn in the header of each format (q8_0.h, q4_k.h, q2_k.h, iq2_xxs.h, mxfp4.h,
// f16.h). Decoded values are exact products and at most one subtraction: the same on every machine.
// Encoders reproduce the reference quantisers of ggml byte for byte.
//
// n is a whole number of blocks. A row lies at an address aligned to its widest member (1 byte for
// MXFP4, 4 for F32, else 2); src and dst must not overlap. All functions are pure and thread-safe;
// only the first IQ2_XXS encoding builds a table. Misuse aborts (NW_CHECK).
#pragma once

#include <cstdint>

#include "quant/q8_k.h"
#include "tensor/dtype.h"

namespace narwhal::quant {

// F32, F16, BF16, Q8_0, Q4_K, Q2_K, IQ2_XXS, MXFP4.
bool can_decode(DType t);
void decode_row(DType t, const void* src, int64_t n, float* dst);

// The same types. MXFP4 rounds; a checkpoint's FP4 is repacked without loss in sources.h.
bool can_encode(DType t);

// Whether encode_row refuses to work without importance: IQ2_XXS.
bool needs_importance(DType t);

// importance: one weight >= 0 per column (the mean square of that input), or null. Q4_K and Q2_K
// search differently with and without; other types but IQ2_XXS ignore it. Values should be finite;
// others give unspecified codes.
void encode_row(DType t, const float* src, int64_t n, const float* importance, void* dst);

// Sum of w * x over n values, w of a type with_q8k(t): Q4_K, Q2_K, IQ2_XXS. Sums within a block of
// 256 are integers; blocks add up in F32, in order.
bool with_q8k(DType t);
float dot_q8k(DType t, const void* w, const Q8K* x, int64_t n);

}  // namespace narwhal::quant
