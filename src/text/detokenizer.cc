#include "text/detokenizer.h"

#include <utility>

#include "text/unicode.h"

namespace narwhal::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

std::string Detokenizer::push(std::string_view bytes) {
  std::string joined;
  if (!held_.empty()) {
    joined = std::exchange(held_, {});
    joined += bytes;
    bytes = joined;
  }
  std::string out;
  out.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    const Utf8Char c = utf8_decode(bytes, i);
    if (c.state == Utf8Char::kIncomplete) {
      held_ = bytes.substr(i);
      break;
    }
    out += c.state == Utf8Char::kValid ? bytes.substr(i, c.length) : kReplacement;
    i += c.length;
  }
  return out;
}

std::string Detokenizer::finish() {
  return std::exchange(held_, {}).empty() ? std::string() : std::string(kReplacement);
}

std::string to_utf8(std::string_view bytes) {
  Detokenizer d;
  std::string out = d.push(bytes);
  return out += d.finish();
}

}  // namespace narwhal::text
