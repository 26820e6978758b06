#include "grammar/tool_calls.h"

#include <gtest/gtest.h>

#include "grammar/test_documents.h"

namespace narwhal {
namespace {

const grammar::TestVocabulary& vocabulary() {
  static const grammar::TestVocabulary v;
  return v;
}

// "|" in `text` stands for the control token.
bool feed(Constraint& c, std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('|', at), text.size());
    if (!c.accept_bytes(text.substr(at, end - at))) return false;
    if (end < text.size() && !c.accept(vocabulary().control)) return false;
    at = end + 1;
  }
  return true;
}
bool takes(const Constraint& start, std::string_view text) {
  Constraint c = start;
  return feed(c, text) && c.can_end();
}

Constraint constraint_of(std::span<const ToolSpec> tools, const ToolCallOptions& options) {
  static const auto trie = vocabulary().trie();
  auto g = compile_tool_calls(tools, vocabulary().control, options);
  EXPECT_TRUE(g.ok()) << g.status().message();
  return Constraint::create(*g, trie);
}

const Json& weather() {
  static const Json j = *Json::parse(R"({"type": "object", "properties": {
      "city": {"type": "string", "minLength": 2}, "days": {"type": "integer", "minimum": 1},
      "unit": {"enum": ["C", "F"]}, "where": {"type": ["string", "null"], "maxLength": 3}},
      "required": ["city"], "additionalProperties": false})");
  return j;
}

std::string call(std::string_view name, std::string_view parameters) {
  return fmt::format("<|invoke name=\"{}\">\n{}\n</|invoke>", name, parameters);
}
std::string block(std::string_view calls) {
  return fmt::format("\n\n<|tool_calls>\n{}\n</|tool_calls>", calls);
}
std::string parameter(std::string_view name, bool is_text, std::string_view value) {
  return fmt::format("<|parameter name=\"{}\" string=\"{}\">{}</|parameter>", name, is_text, value);
}

TEST(ToolCalls, StrictArgumentsFollowTheSchema) {
  const ToolSpec tools[] = {{"get_weather", &weather(), true}};
  const Constraint c = constraint_of(tools, {});
  const auto with = [](std::string_view p) { return block(call("get_weather", p)); };
  const std::string city = parameter("city", true, "Rome");
  EXPECT_TRUE(takes(c, with(city)));
  EXPECT_TRUE(takes(
      c, with(city + "\n" + parameter("days", false, "3") + "\n" + parameter("unit", true, "C"))));
  EXPECT_TRUE(takes(c, with(city + "\n" + parameter("where", false, "null"))));
  EXPECT_TRUE(takes(c, with(city + "\n" + parameter("where", true, "abc"))));
  EXPECT_FALSE(takes(c, with(city + "\n" + parameter("where", true, "abcd"))));
  EXPECT_FALSE(takes(c, with(city + "\n" + parameter("days", false, "0"))));
  EXPECT_FALSE(takes(c, with(city + "\n" + parameter("days", true, "3"))));
  EXPECT_FALSE(takes(c, with(city + "\n" + parameter("unit", true, "K"))));
  EXPECT_FALSE(takes(c, with(parameter("city", true, "R"))));
  EXPECT_FALSE(takes(c, with("")));
  EXPECT_FALSE(takes(c, with(city + "\n" + parameter("other", true, "x"))));
  EXPECT_FALSE(takes(c, block(call("get_whether", city))));
  EXPECT_FALSE(takes(c, with(city) + "\n"));
  EXPECT_FALSE(takes(c, "text" + with(city)));
}

TEST(ToolCalls, TextOfAParameterMayContainMarkup) {
  const Json schema = *Json::parse(
      R"({"properties": {"t": {"type": "string", "maxLength": 8}}, "required": ["t"]})");
  const ToolSpec tools[] = {{"f", &schema, true}};
  const Constraint c = constraint_of(tools, {});
  for (const char* text : {"", "</", "</</a", "<", "<//</</", "</x>", "\"\n\t\\", "12345678",
                           "123456</", "1234567<", "é😀</é"})
    EXPECT_TRUE(takes(c, block(call("f", parameter("t", true, text))))) << text;
  EXPECT_FALSE(takes(c, block(call("f", parameter("t", true, "123456789")))));
  EXPECT_FALSE(takes(c, block(call("f", parameter("t", true, "12345678<")))));
  EXPECT_FALSE(takes(c, block(call("f", parameter("t", true, "a\xC3")))));
}

TEST(ToolCalls, ShortTextNeverLeadsToADeadEnd) {
  for (const char* limits : {R"("minLength": 3, "maxLength": 3)", R"("minLength": 2)",
                             R"("pattern": "^a*<?/?$", "maxLength": 4)", R"("maxLength": 0)"}) {
    const Json schema = *Json::parse(fmt::format(
        R"({{"properties": {{"t": {{"type": "string", {}}}}}, "required": ["t"]}})", limits));
    const ToolSpec tools[] = {{"f", &schema, true}};
    Constraint start = constraint_of(tools, {});
    ASSERT_TRUE(feed(start,
                     "\n\n<|tool_calls>\n<|invoke name=\"f\">\n<|parameter name=\"t\" "
                     "string=\"true\">"));
    // All texts of these signs, as long as the grammar follows.
    std::vector<Constraint> open = {start};
    for (int depth = 0; depth < 7; depth++) {
      std::vector<Constraint> next;
      for (Constraint& c : open) {
        const auto mask = c.mask();
        ASSERT_TRUE(std::any_of(mask.begin(), mask.end(), [](uint64_t w) { return w != 0; }));
        for (const char* sign : {"a", "<", "/"}) {
          Constraint d = c;
          if (d.accept_bytes(sign)) next.push_back(d);
        }
      }
      open = std::move(next);
    }
  }
}

TEST(ToolCalls, FreeArgumentsHaveAnyOrder) {
  const ToolSpec tools[] = {{"get_weather", &weather(), false}, {"now", nullptr, false}};
  const Constraint c = constraint_of(tools, {});
  EXPECT_TRUE(takes(c, block(call("get_weather", parameter("unit", true, "K") + "\n" +
                                                     parameter("city", false, "[1, {}]")))));
  EXPECT_FALSE(takes(c, block(call("get_weather", parameter("other", true, "K")))));
  EXPECT_TRUE(takes(c, block(call("now", ""))));
  EXPECT_TRUE(takes(c, block(call("now", parameter("any", true, "x")))));
  EXPECT_FALSE(takes(c, block(call("now", parameter("any", false, "[1")))));
  EXPECT_TRUE(takes(c, block(call("now", "") + "\n" + call("now", ""))));
}

TEST(ToolCalls, Starts) {
  const ToolSpec tools[] = {{"now", nullptr, false}};
  const std::string one = block(call("now", "")),
                    two = block(call("now", "") + "\n" + call("now", ""));
  const Constraint single = constraint_of(tools, {.is_parallel = false});
  EXPECT_TRUE(takes(single, one));
  EXPECT_FALSE(takes(single, two));

  const Constraint text = constraint_of(tools, {.start = ToolStart::kText});
  EXPECT_TRUE(takes(text, "Hello.\n\n<b> \n\n\n<"));
  EXPECT_TRUE(takes(text, ""));
  EXPECT_TRUE(takes(text, "Hello." + two));
  EXPECT_TRUE(takes(text, one));
  EXPECT_FALSE(takes(text, "Hello.\n<|tool_calls>"));
  EXPECT_FALSE(takes(text, one + "more"));
  EXPECT_FALSE(takes(constraint_of({}, {.start = ToolStart::kText}), one));

  const Json schema = *Json::parse(R"({"type": "integer"})");
  const Constraint json = constraint_of(tools, {.start = ToolStart::kJson, .content = &schema});
  EXPECT_TRUE(takes(json, "17"));
  EXPECT_TRUE(takes(json, one));
  EXPECT_FALSE(takes(json, "x"));

  const Constraint inside = constraint_of(tools, {.start = ToolStart::kInsideCall});
  EXPECT_TRUE(takes(inside, one.substr(one.find("<|invoke"))));
}

TEST(ToolCalls, ForcedUpToTheName) {
  const ToolSpec tools[] = {{"read", nullptr, false}, {"rest", nullptr, false}};
  Constraint c = constraint_of(tools, {});
  auto forced = c.forced();
  EXPECT_EQ(forced.text, "\n\n<");
  EXPECT_EQ(forced.control, vocabulary().control);
  ASSERT_TRUE(feed(c, "\n\n<|"));
  ASSERT_TRUE(feed(c, c.forced().text + "|"));
  EXPECT_EQ(c.forced().text, "invoke name=\"re");
}

TEST(ToolCalls, RefusesByTool) {
  const Json bad = *Json::parse(R"({"properties": {"a": {"not": {}}}})");
  const ToolSpec strict[] = {{"f", &bad, true}};
  const auto refused = compile_tool_calls(strict, 0, {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kUsage);
  EXPECT_NE(refused.status().message().find("tool 'f': schema #/properties/a/not"),
            std::string::npos)
      << refused.status().message();
  const ToolSpec loose[] = {{"f", &bad, false}};
  EXPECT_TRUE(compile_tool_calls(loose, 0, {}).ok());
  const ToolSpec forged[] = {{"f\">", nullptr, false}};
  EXPECT_FALSE(compile_tool_calls(forged, 0, {}).ok());
  EXPECT_FALSE(compile_tool_calls({}, 0, {}).ok());
}

TEST(ToolCalls, RandomBlocksEnd) {
  const ToolSpec tools[] = {{"get_weather", &weather(), true}, {"now", nullptr, false}};
  std::mt19937_64 random(3);
  for (const ToolStart start : {ToolStart::kCall, ToolStart::kText}) {
    const Constraint c = constraint_of(tools, {.start = start});
    for (int i = 0; i < 100; i++) {
      const auto text = grammar::random_document(vocabulary(), c, random, 60);
      ASSERT_TRUE(text) << i;
    }
  }
}

}  // namespace
}  // namespace narwhal
