#pragma once

#include <string>
#include <string_view>

namespace narwhal::text {

// `s` with every `from` (not empty), left to right, replaced. Linear, however many there are.
inline std::string replace_all(std::string_view s, std::string_view from, std::string_view to) {
  std::string out;
  for (size_t at = s.find(from); at != s.npos; at = s.find(from)) {
    out += s.substr(0, at);
    out += to;
    s.remove_prefix(at + from.size());
  }
  return out += s;
}

}  // namespace narwhal::text
