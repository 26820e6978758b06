#include "text/unicode.h"

#include <gtest/gtest.h>

#include <string>

#include "base/file.h"

namespace narwhal::text {
namespace {

TEST(ClassTable, GeneralCategories) {
  const ClassTable& t = class_table();
  for (const char32_t c : U"$+<=>^`|~©←😀") {
    if (c) {
      EXPECT_EQ(t[c], kSymbol) << int(c);
    }
  }
  for (const char32_t c : U"_-()[]{}.,:;!?\"'#%&*/\\@。—") {
    if (c) {
      EXPECT_EQ(t[c], kPunctuation) << int(c);
    }
  }
  for (const char32_t c : U"aZéяع한々") {
    if (c) {
      EXPECT_EQ(t[c], kLetter) << int(c);
    }
  }
  for (const char32_t c : U"09½１Ⅷ") {
    if (c) {
      EXPECT_EQ(t[c], kNumber) << int(c);
    }
  }
  EXPECT_EQ(t[0x301], kMark);
  EXPECT_EQ(t[0x200D], kOther);
  EXPECT_EQ(t[0], kOther);
  EXPECT_EQ(t[0x10FFFF], kOther);
}

TEST(ClassTable, WhiteSpaceIsTheUnicodeProperty) {
  std::u32string found;
  for (char32_t c = 0; c < 0x110000; c++)
    if (class_table()[c] == kSpace) found += c;
  EXPECT_EQ(found,
            U"\x09\x0A\x0B\x0C\x0D\x20\x85\xA0\x1680\x2000\x2001\x2002\x2003\x2004\x2005\x2006"
            U"\x2007\x2008\x2009\x200A\x2028\x2029\x202F\x205F\x3000");
}

TEST(ClassTable, HanKanaBitMarksThreeRanges) {
  for (char32_t c = 0; c < 0x110000; c++) {
    const bool expected = (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x309F) ||
                          (c >= 0x30A0 && c <= 0x30FF);
    ASSERT_EQ(bool(class_table()[c] & kHanKana), expected) << std::hex << int(c);
  }
  EXPECT_EQ(class_table()[0x30FB], kHanKana | kPunctuation);
  EXPECT_EQ(class_table()[0x309B], kHanKana | kSymbol);
  EXPECT_EQ(class_table()[0x3099], kHanKana | kMark);
}

TEST(Utf8Decode, MaximalSubparts) {
  const auto decode = [](std::string_view s) { return utf8_decode(s, 0); };
  EXPECT_EQ(decode("\xF0\x9F\x91\x8D").code, 0x1F44D);
  EXPECT_EQ(decode("\xF0\x9F\x91\x8D").length, 4);
  EXPECT_EQ(decode("\xF0\x9F\x91").state, Utf8Char::kIncomplete);
  EXPECT_EQ(decode("\xF0\x9F\x91").length, 3);
  EXPECT_EQ(decode("\xF0\x9F\x91z").state, Utf8Char::kInvalid);
  EXPECT_EQ(decode("\xF0\x9F\x91z").length, 3);
  for (const char* bad : {"\x80", "\xC0\xAF", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80",
                          "\xF0\x80\x80\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
    EXPECT_EQ(decode(bad).state, Utf8Char::kInvalid) << bad;
    EXPECT_EQ(decode(bad).length, 1) << bad;
  }
}

// Two implementations, one here and one in base, must agree on every two- and three-byte sequence.
TEST(Utf8Decode, AgreesWithCheckUtf8) {
  for (int a = 0; a < 256; a++) {
    for (int b = 0; b < 256; b++) {
      for (const std::string tail : {"", "\x80", "\xBF", "\x80\x80", "x"}) {
        const std::string s = std::string{char(a), char(b)} + tail;
        bool valid = true;
        for (size_t i = 0; i < s.size();) {
          const Utf8Char c = utf8_decode(s, i);
          valid &= c.state == Utf8Char::kValid;
          i += c.length;
        }
        ASSERT_EQ(valid, check_utf8(s).ok()) << a << ' ' << b << ' ' << tail.size();
      }
    }
  }
}

}  // namespace
}  // namespace narwhal::text
