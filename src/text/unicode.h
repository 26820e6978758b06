// Character classes and UTF-8 decoding for the splitter and the detokenizer.
//
// Classes are the general categories of the utf8proc library (Unicode 15.0 in Debian 12; whichever
// version the library has, see unicode_version()); white space is Unicode's White_Space property.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace narwhal::text {

// At most one of the first six bits is set; kHanKana (U+4E00..9FA5, U+3040..30FF) goes with any.
enum CharClass : uint8_t {
  kOther = 0,  // control, format, unassigned, private use; also a byte that is not UTF-8
  kLetter = 1,
  kMark = 2,
  kNumber = 4,
  kPunctuation = 8,
  kSymbol = 16,
  kSpace = 32,
  kHanKana = 64,
};

// Two-level table: 256 code points a page, equal pages stored once (about 50 KB).
class ClassTable {
 public:
  ClassTable();
  uint8_t operator[](char32_t code) const { return pages_[index_[code >> 8]][code & 255]; }

 private:
  using Page = std::array<uint8_t, 256>;
  std::array<uint16_t, 0x1100> index_;
  std::vector<Page> pages_;
};

// Built at the first call (a few ms); thread-safe.
const ClassTable& class_table();

const char* unicode_version();

struct Utf8Char {
  enum State : uint8_t { kValid, kInvalid, kIncomplete };
  char32_t code;   // only for kValid
  uint8_t length;  // kValid: 1..4. Otherwise the bytes that began well (at least 1): Unicode's
                   // "maximal subpart", which is replaced by one U+FFFD.
  State state;     // kIncomplete: the text ended inside a character that is valid so far
};

// The character at text[at]; at < text.size().
Utf8Char utf8_decode(std::string_view text, size_t at);

}  // namespace narwhal::text
