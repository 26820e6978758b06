#include "base/parse_index.h"

#include <gtest/gtest.h>

#include <string>

namespace narwhal {
namespace {

TEST(ParseIndex, ReadsDigitsAndNothingElse) {
  EXPECT_EQ(parse_index("0", 1), 0);
  EXPECT_EQ(parse_index("12", 100), 12);
  EXPECT_EQ(parse_index("0099", 100), 99);
  for (const char* text : {"", "-1", "+1", " 1", "1 ", "1.0", "1e1", "0x1", "100", "9 zzzz"})
    EXPECT_EQ(parse_index(text, 100), std::nullopt) << text;
  EXPECT_EQ(parse_index("0", 0), std::nullopt);
}

TEST(ParseIndex, NoLengthOverflows) {
  EXPECT_EQ(parse_index("9223372036854775806", INT64_MAX), INT64_MAX - 1);
  EXPECT_EQ(parse_index("18446744073709551616", INT64_MAX), std::nullopt);
  EXPECT_EQ(parse_index(std::string(5000, '9'), INT64_MAX), std::nullopt);
  EXPECT_EQ(parse_index(std::string(40, 'z') + "0", INT64_MAX), std::nullopt);
}

}  // namespace
}  // namespace narwhal
