#include "base/json.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace narwhal {
namespace {

std::string round_trip(std::string_view text) {
  const auto j = Json::parse(text);
  EXPECT_TRUE(j.ok()) << j.status().message();
  return j.ok() ? j->dump() : "";
}

TEST(Json, KeepsOrderAndNumberText) {
  EXPECT_EQ(round_trip(R"({"b":1.0,"a":[true,false,null],"c":{}})"),
            R"({"b": 1.0, "a": [true, false, null], "c": {}})");
  EXPECT_EQ(round_trip("[1e-3, 1E3, 0.5, -7, 420, 18446744073709551615, 1.50]"),
            "[1e-3, 1E3, 0.5, -7, 420, 18446744073709551615, 1.50]");
  EXPECT_EQ(round_trip("[]"), "[]");
  EXPECT_EQ(round_trip("\"x\""), "\"x\"");
}

TEST(Json, LastOfEqualNamesWinsInTheFirstPlace) {
  EXPECT_EQ(round_trip(R"({"a":1,"b":2,"a":3})"), R"({"a": 3, "b": 2})");
  // Also when the object is large enough to be indexed.
  std::string in = "{", out = "{";
  for (int i = 0; i < 100; i++) {
    in += fmt::format("\"k{}\": 0, ", i);
    out += fmt::format("{}\"k{}\": {}", i ? ", " : "", i, i == 5 || i == 70 ? 9 : 0);
  }
  EXPECT_EQ(round_trip(in + R"("k5": 9, "k70": 9})"), out + "}");
}

TEST(Json, ManyMembersAreReadInLinearTime) {
  std::string in = "{";
  for (int i = 0; i < 300000; i++) in += fmt::format("\"{0}\":{0},", i);
  in.back() = '}';
  const auto j = Json::parse(in);
  ASSERT_TRUE(j.ok());
  ASSERT_EQ(j->members.size(), 300000u);
  EXPECT_EQ(j->members[299999].second.as_int(), 299999);
}

TEST(Json, Escapes) {
  EXPECT_EQ(round_trip(R"("\u00e9\u65e5\ud83d\udc4d\/\u007f")"), "\"é日👍/\x7F\"");
  EXPECT_EQ(round_trip(R"("\"\\\n\r\t\b\f\u0001\u001f")"), R"("\"\\\n\r\t\b\f\u0001\u001f")");
  EXPECT_EQ(Json::parse(R"("a\u0000b")")->text, std::string("a\0b", 3));
}

TEST(Json, LoneSurrogatesBecomeReplacements) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(Json::parse(R"("\ud800")")->text, r);
  EXPECT_EQ(Json::parse(R"("\udc00x")")->text, r + "x");
  EXPECT_EQ(Json::parse(R"("\ud83d\ud83d\udc4d")")->text, r + "👍");
  EXPECT_EQ(Json::parse(R"("\ud83d\n")")->text, r + "\n");
  EXPECT_EQ(Json::parse(R"("\\ud800")")->text, "\\ud800");  // no escape at all
}

TEST(Json, RefusesWhatIsNoJson) {
  for (const char* bad : {"", " ", "{", "[1,]", "{\"a\"}", "nul", "NaN", "01", "'a'", "\"\n\"",
                          "1 2", "\"\xFF\"", "\"\xED\xA0\x80\"", "[1] x"}) {
    const auto j = Json::parse(bad);
    EXPECT_FALSE(j.ok()) << bad;
    EXPECT_EQ(j.status().code(), Code::kBadInput);
  }
  using std::string_view_literals::operator""sv;
  for (const std::string_view bad : {"[1]\0"sv, "[1]\0] x"sv, "\0[1]"sv, "[\"\0\"]"sv, "\0"sv})
    EXPECT_EQ(Json::parse(bad).status().code(), Code::kBadInput) << json_quote(bad);
  EXPECT_NE(Json::parse("[1, 2, x]").status().message().find("byte 8"), std::string::npos)
      << Json::parse("[1, 2, x]").status().message();
}

TEST(Json, NestingIsLimited) {
  const auto nested = [](int n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_TRUE(Json::parse(nested(512)).ok());
  const auto deep = Json::parse(nested(513));
  ASSERT_FALSE(deep.ok());
  EXPECT_NE(deep.status().message().find("512"), std::string::npos);
  EXPECT_FALSE(Json::parse(std::string(1 << 20, '[')).ok());
}

TEST(Json, Numbers) {
  const auto number = [](const char* text) { return *Json::parse(text); };
  EXPECT_EQ(number("42").as_int(), 42);
  EXPECT_EQ(number("4.2e1").as_int(), 42);
  EXPECT_EQ(number("4.25").as_int(-1), -1);
  EXPECT_EQ(number("-9223372036854775808").as_int(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(number("18446744073709551615").as_int(-1), -1);
  EXPECT_EQ(number("1.5").as_double(), 1.5);
  EXPECT_EQ(Json::of("1").as_int(7), 7);
  EXPECT_EQ(Json::of("1").as_double(7), 7);
  for (const double v : {0.1, 1e300, -2.5e-8, 3.0}) EXPECT_EQ(Json::of(v).as_double(), v);
  EXPECT_TRUE(Json::of(std::nan("")).is_null());
  EXPECT_TRUE(Json::of(HUGE_VAL).is_null());
}

TEST(Json, Members) {
  Json j;
  j.set("a", Json::of(int64_t{1})).set("b", Json::of(true)).set("a", Json::of("x"));
  EXPECT_EQ(j.dump(), R"({"a": "x", "b": true})");
  EXPECT_TRUE(j["none"].is_null());
  EXPECT_EQ(j.find("none"), nullptr);
  EXPECT_TRUE(j["a"]["deeper"].is_null());
  EXPECT_TRUE(j["b"].as_bool());
  EXPECT_TRUE(j["a"].as_bool(true));
  Json list;
  list.push(Json::of("é")).push(Json());
  EXPECT_EQ(list.dump(), "[\"é\", null]");
}

}  // namespace
}  // namespace narwhal
