#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace narwhal {

// How many leading token ids two sequences share.
inline int64_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace narwhal
