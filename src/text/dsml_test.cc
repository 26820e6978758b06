#include "text/dsml.h"

#include <gtest/gtest.h>

#include <random>

#include "base/json.h"
#include "text/output_parser.h"
#include "text/test_vocab.h"

namespace narwhal::text {
namespace {

const Tokenizer& tiny() {
  static const Tokenizer t = *Tokenizer::create(tiny_vocab());
  return t;
}
const Controls& controls() {
  static const Controls c = *Controls::find(tiny());
  return c;
}

const std::string kEos(kEosName);

// Items of a completion in which every control literal is a real control.
Prompt items(std::string_view text) { return split_controls(tiny(), text); }

Result<Completion> parse(std::string_view text, bool thinking = false) {
  return parse_completion(controls(), items(text), thinking);
}

std::string fault(std::string_view text, bool thinking = false) {
  const auto c = parse(text, thinking);
  EXPECT_FALSE(c.ok()) << text;
  EXPECT_EQ(c.status().code(), Code::kBadInput);
  return c.ok() ? "" : c.status().message();
}

struct Streamed {
  std::string reasoning, content;
  std::vector<ToolCall> calls;
  std::vector<OutputEvent> bad;
  bool ended = false;
};

Streamed stream(const std::vector<int32_t>& ids, bool in_reasoning) {
  OutputParser parser(tiny(), controls(), in_reasoning);
  Streamed out;
  const auto take = [&](const std::vector<OutputEvent>& events) {
    for (const OutputEvent& e : events) {
      EXPECT_FALSE(out.ended) << "an event after the end";
      if (e.kind == OutputEvent::kReasoning) out.reasoning += e.text;
      if (e.kind == OutputEvent::kContent) out.content += e.text;
      if (e.kind == OutputEvent::kToolCall) out.calls.push_back(e.call);
      if (e.kind == OutputEvent::kBadCall) out.bad.push_back(e);
      if (e.kind == OutputEvent::kEnd) out.ended = true;
    }
  };
  for (const int32_t id : ids) take(parser.push(id));
  EXPECT_EQ(parser.done(), out.ended);
  take(parser.finish());
  EXPECT_TRUE(parser.finish().empty());
  return out;
}

Streamed stream(std::string_view text, bool in_reasoning = false) {
  return stream(tiny().encode_special(text), in_reasoning);
}

std::string block(std::string_view inside) {
  return fmt::format("\n\n<｜DSML｜tool_calls>\n{}\n</｜DSML｜tool_calls>", inside);
}
std::string invoke(std::string_view name, std::string_view inside) {
  return fmt::format("<｜DSML｜invoke name=\"{}\">\n{}\n</｜DSML｜invoke>", name, inside);
}
std::string parameter(std::string_view name, bool is_string, std::string_view value) {
  return fmt::format("<｜DSML｜parameter name=\"{}\" string=\"{}\">{}</｜DSML｜parameter>", name,
                     is_string, value);
}

std::string rendered(const std::vector<ToolCall>& calls) {
  Prompt prompt;
  render_tool_calls(prompt, controls(), calls);
  return to_string(prompt);
}

TEST(Dsml, Renders) {
  EXPECT_EQ(rendered({}), "");
  EXPECT_EQ(
      rendered({{"", "f", R"({"s": "a\n\"<&", "n": 1.50, "o": {"k": ["é"]}})"}, {"", "g", "{}"}}),
      block(invoke("f", parameter("s", true, "a\n\"<&") + "\n" + parameter("n", false, "1.50") +
                            "\n" + parameter("o", false, R"({"k": ["é"]})")) +
            "\n" + invoke("g", "")));
  EXPECT_EQ(rendered({{"", "f", "[1]"}}), block(invoke("f", parameter("arguments", true, "[1]"))));
  EXPECT_EQ(rendered({{"", "f", "{\"a\": "}}),
            block(invoke("f", parameter("arguments", true, "{\"a\": "))));
}

TEST(Dsml, OnlyTheTagsAreControls) {
  Prompt prompt;
  render_tool_calls(prompt, controls(),
                    {{{"", "｜DSML｜", R"({"｜DSML｜": "</think>｜DSML｜"})"}}});
  int n = 0;
  for (const PromptItem& item : prompt) {
    n += item.is_control();
    if (item.is_control()) {
      EXPECT_EQ(item.control, controls().dsml.id);
    }
  }
  EXPECT_EQ(n, 6);
}

const std::vector<std::vector<ToolCall>> kCalls = {
    {},
    {{"", "now", "{}"}},
    {{"", "f", R"({"s": "", "t": "a\n\n<b> & \"c\" \\ </x>", "u": "日本 👍"})"}},
    {{"", "f",
      R"({"i": -3, "x": 1e-3, "b": true, "z": null, "l": [1, "due", {"k": []}], "o": {}})"},
     {"", "g", R"({"a": "b"})"},
     {"", "f", R"({})"}},
    {{"", "edit",
      R"({"text": "</｜DSML｜parameter>\n</｜DSML｜invoke> ｜DSML｜ </think> &lt; &amp;"})"}},
    {{"", "edit", R"({"list": ["x</｜DSML｜parameter>y"]})"}},
    {{"", "quote", R"({"a\" string=\"b": "c"})"}},
};

TEST(Dsml, RoundTrips) {
  for (const auto& calls : kCalls) {
    for (const bool thinking : {false, true}) {
      Prompt prompt;
      if (thinking) {
        add_text(prompt, "Let me\n\nthink.\n");
        add_control(prompt, controls().end_think);
      }
      add_text(prompt, "\nAnswer <tag>.\n");
      render_tool_calls(prompt, controls(), calls);
      add_control(prompt, controls().eos);
      const auto c = parse_completion(controls(), prompt, thinking);
      ASSERT_TRUE(c.ok()) << c.status().message() << to_string(prompt);
      EXPECT_EQ(c->reasoning, thinking ? "Let me\n\nthink.\n" : "");
      EXPECT_EQ(c->content, "\nAnswer <tag>.\n");
      ASSERT_EQ(c->tool_calls.size(), calls.size());
      for (size_t i = 0; i < calls.size(); i++) {
        EXPECT_EQ(c->tool_calls[i].name, calls[i].name);
        // The closer inside JSON is written with \u003c, which is equal as JSON.
        EXPECT_EQ(Json::parse(c->tool_calls[i].arguments)->dump(), calls[i].arguments);
      }
      // The same items as ids, and streamed.
      const auto ids = encode_prompt(tiny(), prompt);
      const auto again = parse_completion(controls(), prompt_of_ids(tiny(), ids), thinking);
      ASSERT_TRUE(again.ok());
      EXPECT_EQ(*again, *c);
      const Streamed s = stream(ids, thinking);
      EXPECT_EQ(s.reasoning, c->reasoning);
      EXPECT_EQ(s.content, calls.empty() ? c->content : "\nAnswer <tag>.");
      EXPECT_EQ(s.calls, c->tool_calls);
      EXPECT_TRUE(s.bad.empty());
      EXPECT_TRUE(s.ended);
    }
  }
}

TEST(ParseCompletion, EmptyAndUnusual) {
  EXPECT_EQ(*parse(kEos), (Completion{}));
  EXPECT_EQ(*parse("</think>" + kEos, true), (Completion{}));
  EXPECT_EQ(parse("a &lt; b" + kEos)->content, "a &lt; b");
  // A hidden closer is restored whether its marker was spelled out or was the control.
  const auto c =
      parse(block(invoke("f", parameter("x", true, "&lt;/｜DSML｜parameter>&lt;b"))) + kEos);
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->tool_calls[0].arguments, R"({"x": "</｜DSML｜parameter>&lt;b"})");
  // Bytes that are not UTF-8.
  Prompt p = items("a\xFF\xC3" + kEos);
  EXPECT_EQ(parse_completion(controls(), p, false)->content, "a\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(ParseCompletion, Faults) {
  const auto has = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  const std::string good = invoke("f", parameter("x", true, "v"));
  has(fault("text"), "end of sentence");
  has(fault("text" + kEos, true), "</think>");
  has(fault("a</think>b" + kEos), "</think> inside the content");
  has(fault("a<think>b</think>" + kEos, true), "<think> inside the reasoning");
  has(fault("a｜DSML｜b" + kEos), "｜DSML｜");
  has(fault("\n<｜DSML｜tool_calls>\n" + good + "\n</｜DSML｜tool_calls>" + kEos), "｜DSML｜");
  has(fault(block(good) + "x" + kEos), "after the tool calls");
  has(fault(block(good) + "\n" + kEos), "after the tool calls");
  has(fault("\n\n<｜DSML｜tool_calls>\n" + good + kEos), "line feed");
  has(fault("\n\n<｜DSML｜tool_calls>" + good + kEos), "line feed");
  has(fault(block("x" + good) + kEos), "expected an invoke");
  has(fault(block(invoke("f", parameter("x", true, "1") + "\n" + parameter("x", true, "2"))) +
            kEos),
      "x twice");
  has(fault(block(invoke("f", parameter("x", false, "v"))) + kEos), "not JSON");
  has(fault(block(invoke("f", parameter("x", false, "1, 2"))) + kEos), "not JSON");
  has(fault(block(invoke("f", parameter("x", false, "1],[2"))) + kEos), "not JSON");
  has(fault(block(invoke("f", parameter("x", false, ""))) + kEos), "not JSON");
  has(fault(block(invoke("f", "<｜DSML｜parameter name=\"x\">v</｜DSML｜parameter>")) + kEos),
      "string=");
  has(fault(block(invoke("f", "<｜DSML｜parameter x>v</｜DSML｜parameter>")) + kEos), "name=");
  has(fault(block(invoke("f", "text")) + kEos), "expected a parameter");
  has(fault(block(invoke("f", "<｜DSML｜parameter name=\"x\" string=\"true\">v")) + kEos),
      "not closed");
  has(fault(block("<｜DSML｜invoke name=\"f>\n\n</｜DSML｜invoke>") + kEos), "name=");
  has(fault(block(invoke("</think>", "")) + kEos), "name=");
  // The turn is over there, so the value was cut.
  for (const char* role : {"<｜User｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"})
    has(fault(block(invoke("f", parameter("x", true, std::string("a") + role + "b"))) + kEos),
        role);
}

TEST(ParseCompletion, SpelledOutTagsAreText) {
  Prompt p;
  add_text(p, "see" + block(invoke("f", "")) + " and </think>");
  add_control(p, controls().eos);
  const auto c = parse_completion(controls(), p, false);
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_TRUE(c->tool_calls.empty());
  EXPECT_EQ(c->content, to_string(p).substr(0, c->content.size()));
  const Streamed s = stream(encode_prompt(tiny(), p), false);
  EXPECT_EQ(s.content, c->content);
  EXPECT_TRUE(s.calls.empty());
}

TEST(OutputParser, ControlsOutOfPlaceAreHidden) {
  const Streamed s =
      stream("<think>a<think></think><think>b</think>c<｜place▁holder▁no▁0｜>d" + kEos, true);
  EXPECT_EQ(s.reasoning, "a");
  EXPECT_EQ(s.content, "bcd");
  EXPECT_TRUE(s.ended);
}

TEST(OutputParser, RoleTokensEndTheTurn) {
  for (const char* role : {"<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>",
                           "<｜latest_reminder｜>", "<｜end▁of▁sentence｜>"}) {
    const Streamed s = stream(std::string("answer \n") + role + "more");
    EXPECT_EQ(s.content, "answer \n");
    EXPECT_TRUE(s.ended);
  }
}

TEST(OutputParser, BlanksBeforeABlockAreNotContent) {
  EXPECT_EQ(stream("a \n\t\n" + block(invoke("f", ""))).content, "a");
  EXPECT_EQ(stream("a \n\t\n<b").content, "a \n\t\n<b");
  EXPECT_EQ(stream("a \n\t\n").content, "a \n\t\n");
}

TEST(OutputParser, ShowsTextAsSoonAsItCannotBeATag) {
  OutputParser parser(tiny(), controls(), false);
  const auto push = [&](std::string_view text) {
    std::string shown;
    for (const int32_t id : tiny().encode(text))
      for (const auto& e : parser.push(id)) shown += e.text;
    return shown;
  };
  EXPECT_EQ(push("a"), "a");
  EXPECT_EQ(push(" "), "");
  EXPECT_EQ(push("b"), " b");
  EXPECT_EQ(push("<"), "");
  EXPECT_EQ(push("/"), "");
  EXPECT_EQ(push("d"), "</d");
  EXPECT_EQ(push(" <"), "");
  EXPECT_EQ(push("<"), " <");
  EXPECT_EQ(push("\xE6"), "");
  EXPECT_EQ(push("\x97"), "");
  EXPECT_EQ(push("\xA5"), "<日");
}

TEST(OutputParser, MentionsOfTheMarkupStayText) {
  EXPECT_EQ(stream("the ｜DSML｜ marker" + kEos).content, "the ｜DSML｜ marker");
  EXPECT_EQ(stream("write <｜DSML｜tool_call> here" + kEos).content,
            "write <｜DSML｜tool_call> here");
  EXPECT_EQ(stream("x <｜DSML｜").content, "x <｜DSML｜");
  EXPECT_EQ(stream("x\n</｜DSML｜tool_calls>y" + kEos).content, "x\ny");  // orphan closer
  const Streamed s = stream("use <｜DSML｜tool_calls>\n<｜DSML｜invoke now</think>ok" + kEos, true);
  EXPECT_EQ(s.reasoning, "use <｜DSML｜tool_calls>\n<｜DSML｜invoke now");
  EXPECT_EQ(s.content, "ok");
}

TEST(OutputParser, ACallAtALineStartEndsReasoning) {
  const Streamed s = stream("I will call." + block(invoke("f", parameter("x", true, "v"))), true);
  EXPECT_EQ(s.reasoning, "I will call.");
  ASSERT_EQ(s.calls.size(), 1u);
  EXPECT_TRUE(s.ended);
  EXPECT_EQ(stream("x <｜DSML｜tool_calls>\nno call" + kEos, true).reasoning,
            "x <｜DSML｜tool_calls>\nno call");
}

TEST(OutputParser, TheBlockEndsTheTurn) {
  const Streamed s = stream(block(invoke("f", "")) + "more" + kEos);
  EXPECT_EQ(s.content, "");
  EXPECT_EQ(s.calls, (std::vector<ToolCall>{{"", "f", "{}"}}));
  EXPECT_TRUE(s.ended);
}

TEST(OutputParser, LenientValues) {
  const auto call = [](std::string_view inside) {
    const Streamed s = stream(block(invoke("f", inside)) + kEos);
    EXPECT_EQ(s.calls.size(), 1u) << inside;
    return s.calls.empty() ? "" : s.calls[0].arguments;
  };
  EXPECT_EQ(call(parameter("x", false, "Rome")), R"({"x": "Rome"})");
  EXPECT_EQ(call(parameter("x", false, std::string_view("1]\0y", 4))), R"({"x": "1]\u0000y"})");
  EXPECT_EQ(call(parameter("x", true, "1") + parameter("x", true, "2")), R"({"x": "1"})");
  EXPECT_EQ(call("<｜DSML｜parameter name=\"x\" string=\"true\">v"), R"({"x": "v"})");
  EXPECT_EQ(call("<｜DSML｜parameter name=\"x\" string=\"true\">v\n" + parameter("y", true, "w")),
            R"({"x": "v", "y": "w"})");
}

TEST(OutputParser, UnfinishedBlocks) {
  const std::string open = "\n\n<｜DSML｜tool_calls>\n";
  const std::string one = invoke("f", "") + "\n";
  const std::string half = "<｜DSML｜invoke name=\"g\">\n" + parameter("x", true, "v");
  for (const std::string& end : {std::string(), kEos}) {
    EXPECT_EQ(stream(open + one + end).calls.size(), 1u);
    EXPECT_TRUE(stream(open + one + end).bad.empty());
    // All parameters closed: the call counts. A value cut short does not.
    EXPECT_EQ(stream(open + one + half + end).calls.size(), 2u);
    const Streamed cut = stream(
        open + one + half + "\n<｜DSML｜parameter name=\"y\" string=\"true\">rm -rf /tmp" + end);
    EXPECT_EQ(cut.calls.size(), 1u);
    ASSERT_EQ(cut.bad.size(), 1u);
    EXPECT_NE(cut.bad[0].raw.find("rm -rf"), std::string::npos);
    EXPECT_EQ(stream(open + "<｜DSML｜invoke na" + end).bad.size(), 1u);
  }
}

TEST(OutputParser, GarbageInsideABlock) {
  const std::string open = "\n\n<｜DSML｜tool_calls>\n";
  EXPECT_EQ(stream(open + "Sure: " + invoke("f", "") + "\n</｜DSML｜tool_calls>").calls.size(), 1u);
  const Streamed s = stream(open + std::string(600, 'x') + invoke("f", ""));
  EXPECT_TRUE(s.calls.empty());
  EXPECT_EQ(s.bad.size(), 1u);
  EXPECT_TRUE(s.ended);
}

TEST(OutputParser, LongOutputsOneTokenAtATime) {
  const std::string value(1 << 20, 'q');
  const Streamed s = stream(std::string(1 << 20, '\n') + "x" + std::string(1 << 20, ' ') +
                            block(invoke("f", parameter("x", true, value))));
  EXPECT_EQ(s.content, std::string(1 << 20, '\n') + "x");
  ASSERT_EQ(s.calls.size(), 1u);
  EXPECT_EQ(s.calls[0].arguments, "{\"x\": \"" + value + "\"}");
}

TEST(OutputParser, ManyParametersAndClosersStayLinear) {
  std::string open_only, closers;
  for (int i = 0; i < 30000; i++)
    open_only += fmt::format("<｜DSML｜parameter name=\"{}\" string=\"true\">", i);
  const Streamed s = stream(block(invoke("f", open_only)));
  ASSERT_EQ(s.calls.size(), 1u);
  EXPECT_EQ(Json::parse(s.calls[0].arguments)->members.size(), 30000u);

  for (int i = 0; i < 100000; i++) closers += "</｜DSML｜parameter>";
  const std::string arguments = Json::object().set("x", Json::of(closers)).dump();
  Prompt prompt;
  render_tool_calls(prompt, controls(), {{{"", "f", arguments}}});
  add_control(prompt, controls().eos);
  const auto c = parse_completion(controls(), prompt, false);
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->tool_calls[0].arguments, arguments);
}

// Whatever is sampled: UTF-8 comes out, arguments are JSON objects, and nothing is lost when the
// strict reader is content.
TEST(OutputParser, RandomTokenSequences) {
  const std::vector<std::string> parts = {
      "｜DSML｜",
      "｜DSML｜",
      "<",
      "</",
      "tool_calls>",
      "invoke",
      "invoke>",
      "parameter",
      "parameter>",
      " name=\"f\">",
      " name=\"x\" string=\"true\">",
      " name=\"y\" string=\"false\">",
      "\n",
      "\n\n",
      "1",
      "v",
      "\xFF",
      "\xE2",
      "</think>",
      "<think>",
      "&lt;/｜DSML｜parameter>",
      kEos,
      "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n"};
  std::mt19937 random(6);
  for (int i = 0; i < 20000; i++) {
    std::string text;
    for (int n = random() % 30; n > 0; n--)
      text += parts[random() % (i % 2 ? parts.size() : parts.size() - 2)];
    text += kEos;
    const bool thinking = random() % 2;
    const auto ids = tiny().encode_special(text);
    const Streamed s = stream(ids, thinking);
    ASSERT_TRUE(s.ended);
    ASSERT_TRUE(check_utf8(s.reasoning + s.content).ok());
    for (const ToolCall& c : s.calls) {
      const auto json = Json::parse(c.arguments);
      ASSERT_TRUE(json.ok() && json->is_object()) << c.arguments;
    }
    const auto strict = parse_completion(controls(), prompt_of_ids(tiny(), ids), thinking);
    // Strictly, a value runs to its closer even across other tags, which end it when streaming.
    bool tag_in_value = false;
    if (strict.ok())
      for (const ToolCall& c : strict->tool_calls)
        tag_in_value |= c.arguments.find("｜DSML｜") != std::string::npos;
    if (strict.ok() && !tag_in_value) {
      ASSERT_EQ(s.calls, strict->tool_calls) << text;
    }
  }
}

}  // namespace
}  // namespace narwhal::text
