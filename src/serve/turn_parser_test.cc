#include "serve/turn_parser.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/json.h"
#include "text/test_vocab.h"

namespace narwhal::serve {
namespace {

using text::Controls;
using text::Tokenizer;

struct Read {
  std::string reasoning = {}, content = {};
  std::vector<std::pair<std::string, std::string>> calls = {};  // name, arguments
  int n_ended = 0;
  bool done = false;
  bool operator==(const Read&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Read& r) {
  out << "reasoning " << json_quote(r.reasoning) << ", content " << json_quote(r.content);
  for (const auto& [name, arguments] : r.calls) out << ", " << name << " " << arguments;
  return out << ", ended " << r.n_ended << (r.done ? ", done" : "");
}

class TurnParserTest : public testing::Test {
 protected:
  const Tokenizer tokenizer_ = *Tokenizer::create(text::tiny_vocab());
  const Controls controls_ = *Controls::find(tokenizer_);
  const ToolTable tools_{{
      *Json::parse(R"({"name": "bash", "parameters": {"properties": {"command": {"type": "string"},
        "timeout": {"type": "integer"}, "flags": {"type": "array"}}}})"),
      *Json::parse(R"({"name": "now", "parameters": {}})"),
  }};

  // Control names in the text stand for the controls; one byte a token, or merged tokens.
  std::vector<int32_t> ids_of(std::string_view text, bool by_byte) const {
    std::vector<int32_t> ids;
    size_t at = 0;
    const auto add = [&](std::string_view part) {
      for (size_t i = 0; i < part.size(); i += by_byte ? 1 : part.size()) {
        for (int32_t id : tokenizer_.encode(by_byte ? part.substr(i, 1) : part)) ids.push_back(id);
      }
    };
    while (const auto match = tokenizer_.find_added(text, at)) {
      add(text.substr(at, match->begin - at));
      ids.push_back(match->id);
      at = match->begin + match->length;
    }
    add(text.substr(at));
    return ids;
  }

  Read read_ids(const std::vector<int32_t>& ids, bool thinking, bool cut, bool with_tools = true) {
    TurnParser parser(tokenizer_, controls_,
                      {.in_reasoning = thinking, .tools = with_tools ? &tools_ : nullptr});
    OutputEvents events;
    for (int32_t id : ids) parser.push(id, events);
    parser.finish(cut, events);
    Read r;
    for (const OutputEvent& e : events) {
      EXPECT_TRUE(check_utf8(e.text).ok());
      if (e.kind == OutputEvent::kReasoning) r.reasoning += e.text;
      if (e.kind == OutputEvent::kContent) r.content += e.text;
      if (e.kind == OutputEvent::kCallStart) r.calls.emplace_back(e.text, "");
      if (e.kind == OutputEvent::kCallArguments) r.calls.back().second += e.text;
      if (e.kind == OutputEvent::kCallEnd) r.n_ended++;
    }
    r.done = parser.done();
    return r;
  }

  Read read(std::string_view text, bool thinking = false, bool cut = false) {
    Read one = read_ids(ids_of(text, true), thinking, cut);
    const Read other = read_ids(ids_of(text, false), thinking, cut);
    EXPECT_EQ(one, other) << text;
    return one;
  }
};

constexpr std::string_view kOpen = "\n\n<｜DSML｜tool_calls>\n";
constexpr std::string_view kClose = "\n</｜DSML｜tool_calls>";

std::string invoke(std::string_view name, std::string_view parameters) {
  return fmt::format("<｜DSML｜invoke name=\"{}\">\n{}\n</｜DSML｜invoke>", name, parameters);
}
std::string parameter(std::string_view name, bool is_string, std::string_view value) {
  return fmt::format("<｜DSML｜parameter name=\"{}\" string=\"{}\">{}</｜DSML｜parameter>", name,
                     is_string, value);
}
std::string block(std::string_view calls) { return fmt::format("{}{}{}", kOpen, calls, kClose); }

TEST_F(TurnParserTest, ReasoningContentAndCalls) {
  const Read r =
      read("Why?</think>Look." + block(invoke("bash", parameter("command", true, "ls -la") + "\n" +
                                                          parameter("timeout", false, "30")) +
                                       "\n" + invoke("now", "")),
           true);
  EXPECT_EQ(r, (Read{"Why?",
                     "Look.",
                     {{"bash", R"({"command": "ls -la", "timeout": 30})"}, {"now", "{}"}},
                     2,
                     true}));
}

TEST_F(TurnParserTest, ArgumentsKeepEveryByte) {
  for (const std::string value : {"\"quoted\" &amp; \\", "a </think> b", "<｜DSML｜ no", "x < y",
                                  "<", "</", "tab\tCR\r\nLF\n", "😀 é 日本", "</parameter>",
                                  "</div><div>", "&lt;", "&lt;/p", "\n", "\n\n", "a\n<b"}) {
    // Spelled out by text tokens, controls are text.
    std::vector<int32_t> ids = ids_of(
        std::string(kOpen) +
            "<｜DSML｜invoke name=\"bash\">\n<｜DSML｜parameter name=\"command\" string=\"true\">",
        true);
    for (char c : value) {
      for (int32_t id : tokenizer_.encode(std::string(1, c))) ids.push_back(id);
    }
    for (int32_t id : ids_of("</｜DSML｜parameter>\n</｜DSML｜invoke>" + std::string(kClose), true))
      ids.push_back(id);
    const Read r = read_ids(ids, false, false);
    ASSERT_EQ(r.calls.size(), 1u) << value;
    const auto json = Json::parse(r.calls[0].second);
    ASSERT_TRUE(json.ok()) << r.calls[0].second;
    EXPECT_EQ((*json)["command"].text, value);
    EXPECT_TRUE(r.done);
    EXPECT_EQ(r.content, "");
  }
}

TEST_F(TurnParserTest, TheOneEscapeIsUndone) {
  const Read r =
      read(block(invoke("bash", parameter("command", true, "a&lt;/｜DSML｜parameter>b"))));
  ASSERT_EQ(r.calls.size(), 1u);
  EXPECT_EQ((*Json::parse(r.calls[0].second))["command"].text, "a</｜DSML｜parameter>b");
}

TEST_F(TurnParserTest, OnlyTheFirstEndOfThinkingCounts) {
  EXPECT_EQ(read("a</think>b</think>c", true), (Read{"a", "bc"}));
}

TEST_F(TurnParserTest, TolerantSpellingsOfADeclaredTool) {
  for (const char* text : {
           "Hi\n<DSML｜tool_calls>\n<DSML｜invoke name=\"bash\">\n<DSML｜parameter "
           "name=\"command\" "
           "string=\"true\">ls</DSML｜parameter>\n</DSML｜invoke>\n</DSML｜tool_calls>",
           "Hi\n<tool_calls><invoke name='bash'><parameter "
           "name='command'>ls</parameter></invoke></tool_calls>",
           "Hi\n<|DSML|function_calls>\n<|DSML|invoke name=“bash”>\n<|DSML|parameter "
           "string=\"true\" "
           "name=\"command\">ls</|DSML|parameter>\n</|DSML|invoke>\n</|DSML|function_calls>",
           "Hi\n<invoke name=\"bash\">\n<parameter name=\"command\">ls</parameter>\n</invoke>",
           "Hi\n<｜DSML｜ invoke name=\"bash\">\n<｜DSML｜ parameter name=\"command\" "
           "string=\"true\">ls</｜DSML｜ parameter>\n</｜DSML｜ invoke>",
       }) {
    const Read r = read(text);
    ASSERT_EQ(r.calls.size(), 1u) << text;
    EXPECT_EQ(r.calls[0].second, R"({"command": "ls"})") << text;
    EXPECT_EQ(r.content, "Hi") << text;
  }
}

TEST_F(TurnParserTest, MentionsStayText) {
  for (const char* text : {
           "Use <tool_calls><invoke name=\"bash\"> in a line",
           "\n<tool_calls>\n<invoke name=\"unknown\">\n</invoke>",
           "```\n<invoke name=\"bash\">\n</invoke>\n```",
           "\n<invoker",
           "a < b, </div>, <",
           "\n<tool_calls>",
       }) {
    const Read r = read(text);
    EXPECT_EQ(r.content, text);
    EXPECT_TRUE(r.calls.empty()) << text;
  }
}

TEST_F(TurnParserTest, ACallInUnclosedReasoning) {
  const Read r = read("I will look." + block(invoke("now", "")), true);
  EXPECT_EQ(r, (Read{"I will look.", "", {{"now", "{}"}}, 1, true}));
  // In the middle of a line it is a mention.
  EXPECT_TRUE(
      read("The form <｜DSML｜tool_calls><｜DSML｜invoke name=\"now\">", true).calls.empty());
}

TEST_F(TurnParserTest, UnfinishedBlocks) {
  const std::string open = std::string(kOpen) + "<｜DSML｜invoke name=\"bash\">\n";
  const std::string value = open + "<｜DSML｜parameter name=\"command\" string=\"true\">ls";
  const Read closed{"", "", {{"bash", R"({"command": "ls"})"}}, 1, false};
  EXPECT_EQ(read(value), closed) << "an open value is closed";
  EXPECT_EQ(read(value + "</｜DSML｜parameter>\n"), closed);
  EXPECT_EQ(read(value + "</parameter>\n</invoke>"), closed) << "closers without the control";
  EXPECT_EQ(read(value + "\n</｜DSML｜invoke>"), closed) << "a forgotten closer";
  EXPECT_EQ(read(value, false, true), (Read{"", "", {{"bash", R"({"command": "ls)"}}, 0, false}))
      << "a limit leaves it open";
  EXPECT_EQ(read(open), (Read{"", "", {{"bash", "{}"}}, 1, false}));
  EXPECT_EQ(read(std::string(kOpen)).content, "\n\n<｜DSML｜tool_calls>\n");
}

TEST_F(TurnParserTest, RepairsByTheSchema) {
  const auto arguments = [&](const std::string& parameters) {
    const Read r = read(block(invoke("bash", parameters)));
    return r.calls.empty() ? "" : r.calls[0].second;
  };
  EXPECT_EQ(arguments(parameter("timeout", true, "30")), R"({"timeout": 30})");
  EXPECT_EQ(arguments(parameter("timeout", true, "soon")), R"({"timeout": "soon"})");
  EXPECT_EQ(arguments(parameter("flags", false, "[1, ")), R"({"flags": "[1, "})");
  EXPECT_EQ(arguments(parameter("other", true, "30")), R"({"other": "30"})");
  EXPECT_EQ(arguments(parameter("command", true, "a") + parameter("command", true, "b")),
            R"({"command": "a"})");
}

TEST_F(TurnParserTest, GarbageAndRunaways) {
  EXPECT_EQ(read(block("so " + invoke("now", ""))).calls.size(), 1u);
  const Read bad = read(std::string(kOpen) + std::string(400, 'x'));
  EXPECT_TRUE(bad.done && bad.calls.empty());
  EXPECT_NE(bad.content.find("xxx"), std::string::npos);
  std::string same;
  for (int i = 0; i < 6; i++) same += invoke("now", "") + "\n";
  EXPECT_EQ(read(block(same)).calls.size(), 4u);
}

TEST_F(TurnParserTest, WithoutToolsABlockIsText) {
  const std::string text = "Hi" + block(invoke("now", ""));
  EXPECT_EQ(read_ids(ids_of(text, true), false, false, false).content, text);
}

TEST_F(TurnParserTest, AnyDamageGivesValidEvents) {
  const std::string whole =
      "Why?</think>Look." +
      block(invoke("bash", parameter("command", true, "echo \"é\" < a") + "\n" +
                               parameter("flags", false, "[\"x\", {}]")) +
            "\n" + invoke("now", ""));
  const std::vector<int32_t> ids = ids_of(whole, true);
  for (size_t i = 0; i < ids.size(); i++) {
    for (const bool drop : {false, true}) {
      std::vector<int32_t> damaged(ids.begin(), ids.begin() + static_cast<int64_t>(i));
      if (drop) damaged.insert(damaged.end(), ids.begin() + static_cast<int64_t>(i) + 1, ids.end());
      const Read r = read_ids(damaged, true, false);
      for (const auto& [name, arguments] : r.calls)
        EXPECT_TRUE(Json::parse(arguments).ok()) << arguments;
      EXPECT_EQ(r.n_ended, std::ssize(r.calls));
    }
  }
}

TEST_F(TurnParserTest, StructureIsTaggedAsSuch) {
  TurnParser parser(tokenizer_, controls_, {.tools = &tools_});
  OutputEvents events;
  std::string structure, payload;
  const std::string text =
      "Hi" + block(invoke("bash", parameter("command", true, "a < b") +
                                      parameter("flags", false, "[\"x y\", 1]")));
  for (int32_t id : ids_of(text, true)) {
    (parser.structural() ? structure : payload) += tokenizer_.bytes(id);
    parser.push(id, events);
  }
  EXPECT_NE(payload.find("a < b"), std::string::npos);
  EXPECT_NE(payload.find("x y"), std::string::npos);
  EXPECT_NE(structure.find("invoke name=\"bash\">"), std::string::npos);
  EXPECT_NE(structure.find(", 1]"), std::string::npos);
  EXPECT_EQ(payload.find("invoke"), std::string::npos) << payload;
}

}  // namespace
}  // namespace narwhal::serve
