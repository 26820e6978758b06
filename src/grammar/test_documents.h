// A small vocabulary and random documents, for tests, the fuzz target and the oracle. Not part of
// the library.
#pragma once

#include <fmt/format.h>

#include <array>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/constraint.h"
#include "grammar/token_trie.h"

namespace narwhal::grammar {

// Every byte by itself, tokens that cross the borders of JSON in all ways, pieces of UTF-8, and at
// the end two controls: the end and one more, as DSML's.
struct TestVocabulary {
  std::vector<std::string> tokens;
  int32_t end = 0, control = 0;

  TestVocabulary() {
    for (int b = 0; b < 256; b++) tokens.emplace_back(1, static_cast<char>(b));
    for (const char* t : {"{\"",
                          "\":",
                          "\": ",
                          "\": \"",
                          "\", \"",
                          "\",\"",
                          "\"}",
                          "\"]",
                          "}}",
                          "]}",
                          "}]",
                          "],",
                          "},",
                          "}, {",
                          "[[",
                          "[]",
                          "{}",
                          "[\"",
                          ": ",
                          ", ",
                          ",\"",
                          "true",
                          "false",
                          "null",
                          "ull",
                          "12",
                          "100",
                          "2024",
                          "-1",
                          "0.",
                          ".5",
                          "e+",
                          "1e",
                          "00",
                          "abc",
                          "the",
                          " the",
                          "The ",
                          "ab\"",
                          "a\":",
                          "\\n",
                          "\\\"",
                          "\\u",
                          "\\u00",
                          "\\ud8",
                          "3d\\u",
                          "\xC3",
                          "\xA9",
                          "\xC3\xA9",
                          "\xC3\xA9t",
                          "\xE4\xBD\xA0",
                          "\xE4\xBD",
                          "\xA0\xE5",
                          "\xF0\x9F",
                          "\x98\x80",
                          "\xF0\x9F\x98\x80",
                          "name",
                          "value",
                          "type",
                          "kind",
                          "</",
                          "\n</",
                          "<",
                          "\n\n<",
                          "\n<",
                          "tool_calls",
                          "tool_calls>\n",
                          "invoke",
                          " name=\"",
                          "invoke name=\"",
                          "\">\n",
                          "parameter",
                          "parameter name=\"",
                          "\" string=\"",
                          "true\">",
                          "false\">",
                          "parameter>",
                          "parameter>\n",
                          "invoke>\n",
                          ">\n",
                          "abcabcabcabcabcabcabcabc",
                          "                "})
      tokens.emplace_back(t);
    control = static_cast<int32_t>(tokens.size());
    tokens.emplace_back();
    end = static_cast<int32_t>(tokens.size());
    tokens.emplace_back();
  }

  std::shared_ptr<const TokenTrie> trie() const {
    const std::vector<std::string_view> views(tokens.begin(), tokens.end());
    return TokenTrie::create(views, std::array{end});
  }
};

// Samples tokens under the mask to the end of a document. Beyond `n_tokens` it takes what closes
// fastest. The control token stands as "\xFF". Nullopt: no token was left, a masked token was
// refused, or the document did not end.
inline std::optional<std::string> random_document(const TestVocabulary& vocabulary,
                                                  Constraint constraint, std::mt19937_64& random,
                                                  int n_tokens) {
  std::string out;
  for (int i = 0; i < n_tokens + 20000; i++) {
    const auto mask = constraint.mask();
    std::vector<int32_t> allowed, closing;
    for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.tokens.size()); id++) {
      if (!test_bit(mask, id)) continue;
      allowed.push_back(id);
      const std::string& t = vocabulary.tokens[static_cast<size_t>(id)];
      if (t.empty() || (t.size() == 1 && std::string_view("\"]}></").find(t) != std::string::npos))
        closing.push_back(id);
    }
    if (allowed.empty()) return std::nullopt;
    // Not always: some documents end only after what does not close anything.
    const bool hurry = random() % 4 < (i > n_tokens ? 3 : 1);
    int32_t id = allowed[random() % allowed.size()];
    if (hurry && !closing.empty()) id = closing[random() % closing.size()];
    if (i > n_tokens && constraint.can_end()) id = vocabulary.end;
    if (!constraint.accept(id)) return std::nullopt;
    if (constraint.ended()) return out;
    out += id == vocabulary.control ? "\xFF" : vocabulary.tokens[static_cast<size_t>(id)];
  }
  return std::nullopt;
}

inline bool matches(const Constraint& start, std::string_view document) {
  Constraint c = start;
  return c.accept_bytes(document) && c.can_end();
}

}  // namespace narwhal::grammar
