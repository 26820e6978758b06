#include "text/unicode.h"

#include <utf8proc.h>

#include <map>

namespace narwhal::text {
namespace {

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

uint8_t classify(char32_t c) {
  uint8_t cls = kOther;
  if (is_white_space(c)) return kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      cls = kLetter;
      break;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      cls = kMark;
      break;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      cls = kNumber;
      break;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      cls = kPunctuation;
      break;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
      cls = kSymbol;
      break;
    default:
      break;
  }
  if ((c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF)) cls |= kHanKana;
  return cls;
}

}  // namespace

ClassTable::ClassTable() {
  std::map<Page, uint16_t> seen;
  for (char32_t p = 0; p < index_.size(); p++) {
    Page page;
    for (char32_t k = 0; k < 256; k++) page[k] = classify(p * 256 + k);
    const auto [at, is_new] = seen.emplace(page, static_cast<uint16_t>(pages_.size()));
    if (is_new) pages_.push_back(page);
    index_[p] = at->second;
  }
}

const ClassTable& class_table() {
  static const ClassTable table;
  return table;
}

const char* unicode_version() { return utf8proc_unicode_version(); }

Utf8Char utf8_decode(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(at);
  if (first < 0x80) return {first, 1, Utf8Char::kValid};
  const int length = first >= 0xC2 && first < 0xE0   ? 2
                     : first >= 0xE0 && first < 0xF0 ? 3
                     : first >= 0xF0 && first < 0xF5 ? 4
                                                     : 0;
  if (length == 0) return {0, 1, Utf8Char::kInvalid};
  // Overlong forms, surrogates and code points past U+10FFFF are excluded by the second byte.
  uint8_t low = 0x80, high = 0xBF;
  if (first == 0xE0) low = 0xA0;
  if (first == 0xED) high = 0x9F;
  if (first == 0xF0) low = 0x90;
  if (first == 0xF4) high = 0x8F;
  char32_t code = first & (0xFF >> (length + 1));
  for (int k = 1; k < length; k++) {
    const auto good = static_cast<uint8_t>(k);
    if (at + k >= text.size()) return {0, good, Utf8Char::kIncomplete};
    const uint8_t b = byte(at + k);
    if (b < low || b > high) return {0, good, Utf8Char::kInvalid};
    code = code << 6 | (b & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {code, static_cast<uint8_t>(length), Utf8Char::kValid};
}

}  // namespace narwhal::text
