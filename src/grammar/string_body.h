// The characters of a string and what ends it, with bounds on their number.
//
//   kJson   what follows the opening quote: escapes and UTF-8, to the closing quote. Any escape of
//           RFC 8259 is taken; a surrogate only in a proper pair, which counts as one character.
//   kRaw    text as it stands in a call parameter: UTF-8, to the "</" that begins the closer. Text
//           may contain "</" itself, so its end is an offer and not a fact.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace narwhal::grammar {

enum class StringForm : uint8_t { kJson, kRaw };

// Characters (code points), both included.
struct StringBounds {
  static constexpr int64_t kNoLimit = int64_t{1} << 40;
  int64_t min = 0, max = kNoLimit;
};

// What a byte does to a leaf of the grammar: bits.
enum Effect : int {
  kDead = 0,
  kGoesOn = 1,  // more bytes may belong to it
  kMayEnd = 2,  // it may end after this byte
};

struct Position {
  uint32_t state = 0;
  int64_t count = 0;  // characters so far; counts beyond what the bounds can tell apart are merged
};

// UTF-8, byte by byte: states between the bytes of a character.
enum Utf8 : uint8_t { kWhole, kTail1, kTail2, kTail3, kAfterE0, kAfterED, kAfterF0, kAfterF4 };
inline constexpr uint8_t kNotUtf8 = 0xFF;

constexpr uint8_t utf8_step(uint8_t state, uint8_t b) {
  const auto in = [b](int low, int high) { return b >= low && b <= high; };
  switch (state) {
    case kWhole:
      if (b < 0x80) return kWhole;
      if (in(0xC2, 0xDF)) return kTail1;
      if (b == 0xE0) return kAfterE0;
      if (b == 0xED) return kAfterED;
      if (in(0xE1, 0xEF)) return kTail2;
      if (b == 0xF0) return kAfterF0;
      if (in(0xF1, 0xF3)) return kTail3;
      return b == 0xF4 ? uint8_t{kAfterF4} : kNotUtf8;
    case kTail1:
      return in(0x80, 0xBF) ? uint8_t{kWhole} : kNotUtf8;
    case kTail2:
      return in(0x80, 0xBF) ? uint8_t{kTail1} : kNotUtf8;
    case kTail3:
      return in(0x80, 0xBF) ? uint8_t{kTail2} : kNotUtf8;
    case kAfterE0:
      return in(0xA0, 0xBF) ? uint8_t{kTail1} : kNotUtf8;
    case kAfterED:
      return in(0x80, 0x9F) ? uint8_t{kTail1} : kNotUtf8;
    case kAfterF0:
      return in(0x90, 0xBF) ? uint8_t{kTail2} : kNotUtf8;
    case kAfterF4:
      return in(0x80, 0x8F) ? uint8_t{kTail2} : kNotUtf8;
    default:
      return kNotUtf8;
  }
}

namespace string_body {

// kBody to kClosed lie between characters. The eight of Utf8 stand at kUtf8 + value.
enum State : uint8_t {
  kBody,
  kLess,    // raw: the character before was "<"
  kClosed,  // JSON: after the closing quote; raw: the characters before were "</"
  kUtf8,
  kEscape = kUtf8 + 8,
  kHex4,
  kHexD,  // after \ud
  kHex3,
  kHex2,
  kHex1,
  kHigh2,  // in the last two digits of a high surrogate
  kHigh1,
  kLowBackslash,
  kLowU,
  kLowD,
  kLowC,
  kStates
};
inline constexpr uint8_t kNone = 0xFF;
inline constexpr std::string_view kShort = "\"\\/bfnrt";  // escapes of one sign

constexpr bool is_hex(uint8_t b) {
  return (b >= '0' && b <= '9') || (b >= 'a' && b <= 'f') || (b >= 'A' && b <= 'F');
}

constexpr uint8_t text_step(uint8_t state, uint8_t b) {
  const uint8_t next = utf8_step(state, b);
  if (next == kNotUtf8) return kNone;
  return next == kWhole ? uint8_t{kBody} : static_cast<uint8_t>(kUtf8 + next);
}

constexpr uint8_t escape_step(uint8_t state, uint8_t b) {
  const auto hex = [b](State next) { return is_hex(b) ? uint8_t{next} : kNone; };
  const uint8_t lower = b | 0x20;
  switch (state) {
    case kEscape:
      if (b == 'u') return kHex4;
      return kShort.find(static_cast<char>(b)) == kShort.npos ? kNone : uint8_t{kBody};
    case kHex4:
      return lower == 'd' ? uint8_t{kHexD} : hex(kHex3);
    case kHexD:
      if (b >= '0' && b <= '7') return kHex2;
      return b == '8' || b == '9' || lower == 'a' || lower == 'b' ? uint8_t{kHigh2} : kNone;
    case kHex3:
      return hex(kHex2);
    case kHex2:
      return hex(kHex1);
    case kHex1:
      return hex(kBody);
    case kHigh2:
      return hex(kHigh1);
    case kHigh1:
      return hex(kLowBackslash);
    case kLowBackslash:
      return b == '\\' ? uint8_t{kLowU} : kNone;
    case kLowU:
      return b == 'u' ? uint8_t{kLowD} : kNone;
    case kLowD:
      return lower == 'd' ? uint8_t{kLowC} : kNone;
    case kLowC:
      return lower >= 'c' && lower <= 'f' ? uint8_t{kHex2} : kNone;
    default:
      return kNone;
  }
}

constexpr uint8_t form_step(StringForm form, uint8_t state, uint8_t b) {
  if (state >= kEscape) return escape_step(state, b);
  if (state >= kUtf8) return text_step(state - kUtf8, b);
  if (form == StringForm::kRaw) {
    if (b == '<') return kLess;
    return b == '/' && state == kLess ? uint8_t{kClosed} : text_step(kWhole, b);
  }
  if (state != kBody || b < 0x20) return kNone;
  if (b == '"') return kClosed;
  return b == '\\' ? uint8_t{kEscape} : text_step(kWhole, b);
}

using Table = std::array<std::array<uint8_t, 256>, kStates>;
constexpr Table make_table(StringForm form) {
  Table t{};
  for (int s = 0; s < kStates; s++)
    for (int b = 0; b < 256; b++)
      t[s][b] = form_step(form, static_cast<uint8_t>(s), static_cast<uint8_t>(b));
  return t;
}
inline constexpr Table kTables[2] = {make_table(StringForm::kJson), make_table(StringForm::kRaw)};

}  // namespace string_body

// Moves `at` by one byte. From any position that is not dead the string can still be ended within
// its bounds.
inline int advance_string(StringForm form, const StringBounds& bounds, Position& at, uint8_t byte) {
  using namespace string_body;
  const uint8_t next = kTables[static_cast<int>(form)][at.state][byte];
  if (next == kNone) return kDead;
  if (at.state <= kClosed) {
    const bool is_text = at.count < bounds.max;
    const auto can_stop_at = [&](int64_t n) { return n >= bounds.min && n <= bounds.max; };
    if (form == StringForm::kJson) {
      if (next == kClosed ? !can_stop_at(at.count) : !is_text) return kDead;
    } else if (!is_text) {  // only what can still become the closer
      const bool begins = next == kLess && can_stop_at(at.count);
      const bool completes = next == kClosed && can_stop_at(at.count - 1);
      if (!begins && !completes) return kDead;
    }
    at.count++;
    // Without an upper bound counts far above the lower one are all alike.
    if (bounds.max == StringBounds::kNoLimit) at.count = std::min(at.count, bounds.min + 2);
  }
  at.state = next;
  if (next != kClosed) return kGoesOn;
  if (form == StringForm::kJson) return kMayEnd;
  const int64_t n = at.count - 2;
  return kGoesOn | (n >= bounds.min && n <= bounds.max ? kMayEnd : 0);
}

}  // namespace narwhal::grammar
