// KV rows between f32 and their stored form (RowFormat). Decoding gives exactly the value the model
// attends to, so a row read back from a cache equals the row just computed.
#pragma once

#include <cstddef>

#include "ops/types.h"

namespace narwhal {

// x[format.dim] -> format.bytes(). kIndex rotates x by the Hadamard transform first and so needs
// `scratch` [dim]; the other kinds ignore it.
void encode_kv_row(const RowFormat& format, const float* x, std::byte* out, float* scratch);

// format.bytes() -> x[format.dim]. Index rows stay rotated, as their queries are.
void decode_kv_row(const RowFormat& format, const std::byte* row, float* x);

// The same rounding without storing: Hadamard, then FP4, in place (index queries).
void round_index_head(const RowFormat& format, float* q);

}  // namespace narwhal
