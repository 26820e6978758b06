#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "base/file.h"

namespace narwhal::text {
namespace {

const std::string kReplacement = "\xEF\xBF\xBD";

TEST(Detokenizer, SplitAtEveryByte) {
  const std::string text = "aé日\n👍🏽 z\u0301｜DSML｜";
  for (size_t i = 0; i <= text.size(); i++) {
    Detokenizer d;
    const std::string first = d.push(text.substr(0, i));
    EXPECT_TRUE(check_utf8(first).ok()) << i;
    EXPECT_LE(i - first.size(), 3u);
    const std::string rest = d.push(text.substr(i));
    EXPECT_EQ(first + rest, text) << i;
    EXPECT_EQ(d.finish(), "");
  }
}

TEST(Detokenizer, HoldsOnlyWhatMayStillBecomeACharacter) {
  Detokenizer d;
  EXPECT_EQ(d.push("x\xF0\x9F"), "x");
  EXPECT_EQ(d.push("\x91"), "");
  EXPECT_EQ(d.push("\x8D"), "👍");
  EXPECT_EQ(d.push("\xE2\x82"), "");
  EXPECT_EQ(d.push("A"), kReplacement + "A");
  EXPECT_EQ(d.push("\xFF"), kReplacement);
  EXPECT_EQ(d.push("\xED\xA0\x80"), kReplacement + kReplacement + kReplacement);  // a surrogate
  EXPECT_EQ(d.push("\xC3"), "");
  EXPECT_EQ(d.push("\xC3\xA9"), kReplacement + "é");
  EXPECT_EQ(d.push("\xC3"), "");
  EXPECT_EQ(d.finish(), kReplacement);
  EXPECT_EQ(d.finish(), "");
}

TEST(Detokenizer, AnyBytesInAnyPiecesGiveTheSameText) {
  std::mt19937 random(5);
  for (int i = 0; i < 2000; i++) {
    std::string bytes;
    static constexpr std::string_view kBytes =
        "az\x80\xBF\xA9\xC3\xE2\x82\xAC\xED\xF0\x9F\x91\x8D\xFF";
    for (int n = random() % 12; n > 0; n--) bytes += kBytes[random() % kBytes.size()];
    Detokenizer d;
    std::string out;
    for (const char c : bytes) {
      out += d.push(std::string_view(&c, 1));
      ASSERT_TRUE(check_utf8(out).ok());
    }
    out += d.finish();
    ASSERT_EQ(out, to_utf8(bytes));
    if (check_utf8(bytes).ok()) {
      ASSERT_EQ(out, bytes);
    }
  }
}

}  // namespace
}  // namespace narwhal::text
