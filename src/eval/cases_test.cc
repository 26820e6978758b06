#include "eval/cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <string>

#include "eval/world.h"

namespace narwhal::eval {
namespace {

int count_words(const std::string& text) {
  return 1 + static_cast<int>(std::count(text.begin(), text.end(), ' '));
}

std::string all_text(const Case& c) {
  std::string out;
  for (const auto& m : c.messages) out += m.content + "\n";
  return out;
}

int prompt_words(const Case& c) {
  return count_words(all_text(c)) - count_words(c.messages.back().content);
}

TEST(Dice, SameStreamSameDraws) {
  Dice a(7, "x"), b(7, "x"), other_seed(8, "x"), other_name(7, "y");
  int differ_seed = 0, differ_name = 0;
  for (int i = 0; i < 100; i++) {
    const int v = a.below(1000);
    EXPECT_EQ(v, b.below(1000));
    differ_seed += v != other_seed.below(1000);
    differ_name += v != other_name.below(1000);
  }
  EXPECT_GT(differ_seed, 90);
  EXPECT_GT(differ_name, 90);
}

TEST(World, FactsAnswerTheirQuestion) {
  Dice d(1, "facts");
  for (int i = 0; i < 600; i++) {
    const Fact f = any_fact(d);
    EXPECT_NE(f.statement.find(f.value), std::string::npos) << f.statement;
    EXPECT_NE(f.answer.find(f.value), std::string::npos) << f.answer;
    EXPECT_EQ(f.question.find('{'), std::string::npos);
  }
}

TEST(World, CodesAreFourToSixCharacters) {
  Dice d(1, "codes");
  int with_letters = 0;
  for (int i = 0; i < 400; i++) {
    const std::string code = random_code(d);
    EXPECT_GE(code.size(), 4u);
    EXPECT_LE(code.size(), 6u);
    with_letters += std::any_of(code.begin(), code.end(), [](char c) { return c >= 'A'; });
  }
  EXPECT_GT(with_letters, 150);
  EXPECT_LT(with_letters, 250);
}

TEST(World, FillersAreFilledIn) {
  Dice d(3, "fillers");
  for (int i = 0; i < 500; i++) {
    const std::string s = filler(d);
    EXPECT_EQ(s.find_first_of("{}"), std::string::npos) << s;
    EXPECT_TRUE(s.ends_with('.')) << s;
  }
}

TEST(TextCases, AnswersAreRight) {
  Dice d(5, "text");
  for (int i = 0; i < 200; i++) {
    const Exercise e = exercise(d, "add");
    int a = 0, b = 0, sum = 0;
    ASSERT_EQ(std::sscanf(e.answer.c_str(), "%d + %d = %d.", &a, &b, &sum), 3) << e.answer;
    EXPECT_EQ(a + b, sum);
    EXPECT_TRUE(e.reasoning.ends_with("So " + std::to_string(sum) + ".")) << e.reasoning;
  }
  const auto after_colon = [](const std::string& s) { return s.substr(s.find(": ") + 2); };
  for (int i = 0; i < 100; i++) {
    const Exercise sorted = exercise(d, "sort");
    EXPECT_EQ(sorted.answer.size(), after_colon(sorted.question).size());
    const Exercise copy = exercise(d, "copy");
    EXPECT_EQ(copy.answer, after_colon(copy.question));
  }
  EXPECT_NE(exercise(d, "subtract").answer.find(" - "), std::string::npos);
}

TEST(TextCases, CarriesAreWrittenOut) {
  Dice d(6, "carry");
  int n_carries = 0;
  for (int i = 0; i < 200; i++) {
    const Exercise e = exercise(d, "add");
    int a = 0, b = 0, carry = 0, expected = 0;
    ASSERT_EQ(std::sscanf(e.answer.c_str(), "%d + %d", &a, &b), 2);
    for (; a > 0 || b > 0; a /= 10, b /= 10) {
      carry = a % 10 + b % 10 + carry > 9;
      expected += carry;
    }
    int written = 0;
    for (size_t at = 0; (at = e.reasoning.find(", carry 1.", at)) != std::string::npos; at++)
      written++;
    EXPECT_EQ(written, expected) << e.reasoning;
    n_carries += written;
  }
  EXPECT_GT(n_carries, 50);
}

TEST(ToolCases, CallsMatchTheirDefinitions) {
  Dice d(9, "tools");
  for (std::string_view sub : {"one call", "two calls", "second call", "no call", "error"}) {
    for (int i = 0; i < 100; i++) {
      const Case c = tool_case(d, sub, i % 2 == 0, i % 5);
      int n_calls = 0, n_results = 0, n_blocks = 0;
      for (const auto& m : c.messages) {
        n_results += m.role == text::Role::kTool;
        n_blocks += !m.tool_calls.empty();
        for (const auto& call : m.tool_calls) {
          n_calls++;
          const auto tool = std::find_if(c.tools.begin(), c.tools.end(), [&](const Json& t) {
            return t["name"].text == call.name;
          });
          ASSERT_NE(tool, c.tools.end()) << call.name;
          const auto arguments = Json::parse(call.arguments);
          ASSERT_TRUE(arguments.ok());
          for (const auto& [name, value] : (*arguments).members) {
            const Json* p = (*tool)["parameters"]["properties"].find(name);
            ASSERT_TRUE(p) << name;
            EXPECT_EQ((*p)["type"].text, value.is_number() ? "number" : "string");
          }
        }
      }
      EXPECT_EQ(n_calls, n_results);
      EXPECT_EQ(n_calls, sub == "no call" ? 0 : sub == "two calls" || sub == "second call" ? 2 : 1);
      EXPECT_EQ(n_blocks, sub == "second call" ? 2 : n_calls > 0);
      EXPECT_EQ(c.messages.back().role, text::Role::kAssistant);
      EXPECT_TRUE(c.messages.back().tool_calls.empty());
    }
  }
}

TEST(ToolCases, NamesVary) {
  Dice d(2, "names");
  std::set<std::string> names;
  for (int i = 0; i < 100; i++)
    for (const Json& t : tool_case(d, "one call", false, 0).tools) names.insert(t["name"].text);
  EXPECT_GT(names.size(), 50u);
}

// With words in the place of tokens.
TEST(RecallCases, LengthsDepthsAndNoRepetition) {
  Dice d(4, "recall");
  std::vector<double> depths;
  for (int document = 0; document < 40; document++) {
    const RecallRequest request{.n_tokens = 1500, .thinking = false, .residues = {3, 64, 127, 0}};
    const auto group = recall_group(
        d, request, [](const std::string& t) { return count_words(t) - 1; }, prompt_words);
    ASSERT_EQ(group.cases.size(), 4u);
    EXPECT_EQ(std::count(group.is_code.begin(), group.is_code.end(), true), 2);
    for (size_t i = 0; i < 4; i++) {
      const Case& c = group.cases[i];
      EXPECT_EQ(prompt_words(c) % 128, request.residues[i]);
      EXPECT_LE(prompt_words(c), 1500);
      EXPECT_GT(prompt_words(c), 1100);
      // The statement that the reasoning quotes stands in the text once.
      const std::string statement = c.messages.back().reasoning.substr(15);
      const std::string text = all_text(c);
      const size_t at = text.find(statement);
      ASSERT_NE(at, std::string::npos) << statement;
      depths.push_back(static_cast<double>(at) / static_cast<double>(text.size()));
      std::set<std::string> sentences;
      size_t n = 0;
      for (size_t from = 0, dot; (dot = text.find(". ", from)) != text.npos; from = dot + 2, n++)
        sentences.insert(text.substr(from, dot - from));
      EXPECT_GE(sentences.size() + 2, n);  // names before a lead-in may differ in their blanks
    }
  }
  const auto below = [&](double share) {
    return std::count_if(depths.begin(), depths.end(), [&](double v) { return v < share; });
  };
  EXPECT_GT(below(0.5), 50);  // of 160
  EXPECT_LT(below(0.5), 115);
  EXPECT_GT(below(0.2), 10);
  EXPECT_LT(below(0.75), 155);
}

}  // namespace
}  // namespace narwhal::eval
