#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace narwhal {

// The number from 0 to n - 1 that `text` writes in decimal digits and nothing else; any text may
// come, of any length. parse_index("12", 100) is 12; "", "-1", "+1", "1.0" and "100" are none.
inline std::optional<int64_t> parse_index(std::string_view text, int64_t n) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value >= static_cast<uint64_t>(n)) return std::nullopt;
  return static_cast<int64_t>(value);
}

}  // namespace narwhal
