#include "grammar/constraint.h"

#include <gtest/gtest.h>

#include <thread>

#include "grammar/json_schema.h"
#include "grammar/test_documents.h"

namespace narwhal {
namespace {

const grammar::TestVocabulary& vocabulary() {
  static const grammar::TestVocabulary v;
  return v;
}
const std::shared_ptr<const TokenTrie>& trie() {
  static const auto t = vocabulary().trie();
  return t;
}

Constraint constraint_of(std::string_view schema) {
  const auto json = Json::parse(schema);
  auto g = compile_json_schema(*json, {});
  EXPECT_TRUE(g.ok()) << g.status().message();
  return Constraint::create(*g, trie());
}

TEST(TokenTrie, FindsEveryToken) {
  int32_t n = 0;
  for (const TokenTrie::Node& node : trie()->nodes())
    for (int32_t t = node.token; t >= 0; t = trie()->next_same(t)) n++;
  EXPECT_EQ(n, static_cast<int32_t>(vocabulary().tokens.size()) - 2);  // all but the controls
  for (int32_t id = 0; id < trie()->n_tokens(); id++)
    EXPECT_EQ(trie()->bytes(id), vocabulary().tokens[static_cast<size_t>(id)]);
}

// The mask against trying every token: at every step of random documents.
TEST(Constraint, MaskIsExactlyWhatIsAccepted) {
  std::mt19937_64 random(5);
  for (const char* schema :
       {"true", R"({"type": "string", "minLength": 3, "maxLength": 6})",
        R"({"type": "array", "items": {"enum": ["abc", "ab\"", 12, 1200]}, "maxItems": 4})",
        R"({"type": "object", "properties": {"name": {"type": "string", "pattern": "^[a-c]*$"},
            "value": {"type": "integer", "minimum": 10}}, "additionalProperties": true})"}) {
    const Constraint start = constraint_of(schema);
    for (int round = 0; round < 4; round++) {
      Constraint c = start;
      for (int i = 0; i < 40 && !c.ended(); i++) {
        const auto span = c.mask();
        const TokenMask mask(span.begin(), span.end());
        std::vector<int32_t> allowed;
        for (int32_t id = 0; id < trie()->n_tokens(); id++) {
          Constraint tried = c;
          ASSERT_EQ(tried.accept(id), test_bit(mask, id))
              << schema << " token '" << vocabulary().tokens[static_cast<size_t>(id)] << "'";
          if (test_bit(mask, id)) allowed.push_back(id);
        }
        ASSERT_FALSE(allowed.empty());
        ASSERT_TRUE(c.accept(allowed[random() % allowed.size()]));
      }
    }
  }
}

TEST(Constraint, EndsOnlyWhereItMay) {
  Constraint c = constraint_of(R"({"type": "integer", "minimum": 1, "maximum": 20})");
  EXPECT_FALSE(c.can_end());
  EXPECT_FALSE(c.accept(vocabulary().end));
  ASSERT_TRUE(c.accept_bytes("2"));
  EXPECT_TRUE(c.can_end());
  EXPECT_FALSE(c.must_end());
  EXPECT_TRUE(c.allows(vocabulary().end));
  ASSERT_TRUE(c.accept_bytes("0"));
  EXPECT_TRUE(c.must_end());
  ASSERT_TRUE(c.accept(vocabulary().end));
  EXPECT_TRUE(c.ended());
  for (const uint64_t word : c.mask()) EXPECT_EQ(word, 0u);
  EXPECT_FALSE(c.accept('1'));
  EXPECT_FALSE(c.accept_bytes("1"));
  c.reset();
  EXPECT_TRUE(c.accept_bytes("7"));
}

TEST(Constraint, ARefusedTokenChangesNothing) {
  Constraint c = constraint_of(R"({"const": "abc"})");
  ASSERT_TRUE(c.accept_bytes("\"a"));
  EXPECT_FALSE(c.accept_bytes("bx"));
  EXPECT_FALSE(c.accept(-1));
  EXPECT_FALSE(c.accept(trie()->n_tokens()));
  EXPECT_FALSE(c.accept(vocabulary().control));
  EXPECT_TRUE(c.accept_bytes("bc\""));
}

TEST(Constraint, CopiesGoTheirOwnWay) {
  Constraint a = constraint_of("true");
  ASSERT_TRUE(a.accept_bytes("[1"));
  Constraint b = a;
  ASSERT_TRUE(a.accept_bytes("]"));
  EXPECT_TRUE(a.must_end());
  EXPECT_FALSE(b.can_end());
  ASSERT_TRUE(b.accept_bytes(",2]"));
}

TEST(Constraint, ForcedTextIsWhatHasNoChoice) {
  Constraint c = constraint_of(
      R"({"type": "object", "properties": {"kind": {"enum": ["circle", "cube"]}},
          "required": ["kind"], "additionalProperties": false})");
  EXPECT_EQ(c.forced().text, "{\"kind\":");
  ASSERT_TRUE(c.accept_bytes("{\"kind\": "));
  EXPECT_EQ(c.forced().text, "\"c");
  ASSERT_TRUE(c.accept_bytes("\"ci"));
  EXPECT_EQ(c.forced().text, "rcle\"}");
  EXPECT_EQ(c.forced(3).text, "rcl");
}

TEST(Constraint, AmbiguousGrammarsStayBounded) {
  // Each level doubles the readings.
  Constraint c = constraint_of(
      R"({"anyOf": [{"type": "array", "items": {"$ref": "#"}},
                    {"type": "array", "items": {"$ref": "#"}, "maxItems": 9}]})");
  for (int i = 0; i < 40; i++) ASSERT_TRUE(c.accept_bytes("["));
  EXPECT_TRUE(c.allows(']'));
  for (int i = 0; i < 40; i++) ASSERT_TRUE(c.accept_bytes("]")) << i;
  EXPECT_TRUE(c.must_end());
}

TEST(Constraint, CopiesMayRunInThreads) {
  const Constraint start = constraint_of("true");
  std::vector<std::thread> threads;
  std::vector<int> n_ended(4);
  for (int t = 0; t < 4; t++)
    threads.emplace_back([&, t] {
      std::mt19937_64 random(static_cast<uint64_t>(t));
      for (int i = 0; i < 20; i++)
        n_ended[static_cast<size_t>(t)] +=
            grammar::random_document(vocabulary(), start, random, 30).has_value();
    });
  for (auto& t : threads) t.join();
  for (const int n : n_ended) EXPECT_EQ(n, 20);
}

}  // namespace
}  // namespace narwhal
