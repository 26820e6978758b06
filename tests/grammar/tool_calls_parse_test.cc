// What the grammar of tool calls lets through is what the readers of tool calls take.
#include <gtest/gtest.h>

#include <array>
#include <random>

#include "grammar/constraint.h"
#include "grammar/test_checker.h"
#include "grammar/tool_calls.h"
#include "text/dsml.h"
#include "text/output_parser.h"
#include "text/test_vocab.h"
#include "text/tokenizer.h"

namespace narwhal {
namespace {

const text::Tokenizer& tokenizer() {
  static const text::Tokenizer t = *text::Tokenizer::create(text::tiny_vocab());
  return t;
}
const text::Controls& controls() {
  static const text::Controls c = *text::Controls::find(tokenizer());
  return c;
}

std::shared_ptr<const TokenTrie> trie() {
  std::vector<std::string_view> tokens;
  for (int32_t id = 0; id < tokenizer().vocab_size(); id++)
    tokens.push_back(tokenizer().is_control(id) ? std::string_view() : tokenizer().bytes(id));
  return TokenTrie::create(tokens, std::array{tokenizer().eos()});
}

// Tokens sampled under the mask, the closing ones more often; empty when there was no end.
std::vector<int32_t> sample(Constraint c, std::mt19937_64& random) {
  std::vector<int32_t> out;
  while (!c.ended() && out.size() < 50000) {
    const auto mask = c.mask();
    std::vector<int32_t> allowed, closing, controls_allowed;
    for (int32_t id = 0; id < tokenizer().vocab_size(); id++) {
      if (!test_bit(mask, id)) continue;
      allowed.push_back(id);
      const auto bytes = tokenizer().bytes(id);
      if (tokenizer().is_control(id)) controls_allowed.push_back(id);
      if (bytes.size() == 1 && std::string_view("\"]}</").find(bytes) != std::string_view::npos)
        closing.push_back(id);
    }
    if (!controls_allowed.empty()) closing = controls_allowed;
    if (allowed.empty()) return {};
    const auto& from = !closing.empty() && random() % 3 ? closing : allowed;
    out.push_back(from[random() % from.size()]);
    if (!c.accept(out.back())) return {};
  }
  return c.ended() ? out : std::vector<int32_t>{};
}

TEST(ToolCallGrammar, EveryBlockIsReadAndFitsItsSchema) {
  const Json strict = *Json::parse(R"({"type": "object", "properties": {
      "city": {"type": "string", "minLength": 1, "maxLength": 9}, "days": {"type": "integer",
      "minimum": 1, "maximum": 31}, "unit": {"enum": ["C", "F", 3]},
      "where": {"type": ["string", "null", "array"], "items": {"type": "boolean"}}},
      "required": ["city", "unit"], "additionalProperties": false})");
  const ToolSpec tools[] = {{"get_weather", &strict, true}};
  const auto grammar = compile_tool_calls(tools, controls().dsml.id, {});
  ASSERT_TRUE(grammar.ok()) << grammar.status().message();
  const Constraint start = Constraint::create(*grammar, trie());
  const grammar::Checker checker(strict);
  std::mt19937_64 random(11);
  int n_calls = 0, n_odd = 0;
  for (int i = 0; i < 150; i++) {
    const auto ids = sample(start, random);
    ASSERT_FALSE(ids.empty()) << i;
    text::Prompt items;
    text::OutputParser parser(tokenizer(), controls(), false);
    std::vector<text::ToolCall> streamed;
    for (const int32_t id : ids) {
      if (tokenizer().is_control(id))
        text::add_control(items, {id, tokenizer().bytes(id)});
      else
        text::add_text(items, tokenizer().bytes(id));
      for (const auto& e : parser.push(id))
        if (e.kind == text::OutputEvent::kToolCall) streamed.push_back(e.call);
    }
    const auto read = text::parse_completion(controls(), items, false);
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_EQ(read->content, "");
    EXPECT_EQ(read->tool_calls, streamed);
    for (const text::ToolCall& call : read->tool_calls) {
      EXPECT_EQ(call.name, "get_weather");
      const auto arguments = Json::parse(call.arguments);
      ASSERT_TRUE(arguments.ok());
      EXPECT_TRUE(checker.valid(*arguments)) << call.arguments;
      n_calls++;
      n_odd += (*arguments)["city"].text.find_first_of("</\"") != std::string::npos;
    }
  }
  EXPECT_GT(n_calls, 150);
  EXPECT_GT(n_odd, 10);  // texts that look like markup were among them
}

}  // namespace
}  // namespace narwhal
