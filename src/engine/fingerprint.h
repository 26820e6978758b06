// What saved state belongs to: one model file in one KV format. Anything else must not be mixed
// with it.
#pragma once

#include <cstdint>

#include "gguf/reader.h"
#include "model/kv_layout.h"

namespace narwhal {

// Raised whenever the values of KV rows may change for the same model and tokens.
inline constexpr uint32_t kNumericsVersion = 1;

// Hash of tensor names, shapes, types and a sample of their data, of the row formats and
// kNumericsVersion. Touches a few kilobytes per tensor, so that large files are not read.
uint64_t state_fingerprint(const gguf::File& file, const KvLayout& layout);

}  // namespace narwhal
