// Vocabularies for tests, fuzz targets and benchmarks. Not part of the library.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

namespace narwhal::text {

// The order of DeepSeek's base tokens: 3 specials, 256 bytes by their printable letters, then what
// each merge joins. Merges: one a line.
inline Vocab vocab_from_merges(std::string_view lines) {
  Vocab v;
  const auto add = [&](std::string_view token, int32_t type) {
    v.tokens.emplace_back(token);
    v.types.push_back(type);
  };
  for (const auto name : {kBosName, kEosName, kPadName}) add(name, Vocab::kControl);
  std::vector<std::string> letters;
  for (int b = 0; b < 256; b++)
    letters.push_back(to_printable(std::string(1, static_cast<char>(b))));
  // Shorter UTF-8 first is code point order, since all letters are below U+0800.
  std::sort(letters.begin(), letters.end(), [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  });
  for (const auto& letter : letters) add(letter, Vocab::kNormal);
  while (!lines.empty()) {
    const std::string merge(lines.substr(0, lines.find('\n')));
    lines.remove_prefix(std::min(merge.size() + 1, lines.size()));
    std::string joined = merge;
    joined.erase(joined.find(' '), 1);
    add(joined, Vocab::kNormal);
    v.merges.push_back(merge);
  }
  return v;
}

inline void add_control_token(Vocab& v, std::string_view name) {
  v.tokens.emplace_back(name);
  v.types.push_back(Vocab::kControl);
}

// The names of DeepSeek V4's added tokens from id 128000 on. Those that neither the template nor
// the tests use (multimodal markers) are stand-ins that fill their ids.
inline std::vector<std::string> v4_added_tokens() {
  std::vector<std::string> names;
  for (int i = 0; i < 800; i++) names.push_back(fmt::format("<｜place▁holder▁no▁{}｜>", i));
  for (const char* name : {"<｜fim▁hole｜>",
                           "<｜fim▁begin｜>",
                           "<｜fim▁end｜>",
                           "<｜User｜>",
                           "<｜Assistant｜>",
                           "<|EOT|>",
                           "<｜tool▁calls▁begin｜>",
                           "<｜tool▁calls▁end｜>",
                           "<｜tool▁call▁begin｜>",
                           "<｜tool▁call▁end｜>",
                           "<｜tool▁outputs▁begin｜>",
                           "<｜tool▁outputs▁end｜>",
                           "<｜tool▁output▁begin｜>",
                           "<｜tool▁output▁end｜>",
                           "<｜tool▁sep｜>",
                           "<｜begin▁of▁repo▁name｜>",
                           "<｜end▁of▁repo▁name｜>",
                           "<｜begin▁of▁file▁name｜>",
                           "<｜end▁of▁file▁name｜>",
                           "<｜begin▁of▁file｜>",
                           "<｜end▁of▁file｜>",
                           "<think>",
                           "</think>",
                           "<｜place▁holder▁for▁copy｜>",
                           "<｜place▁holder▁for▁pointer▁replace｜>",
                           "｜DSML｜",
                           "<｜begin▁sys｜>",
                           "<｜end▁sys｜>",
                           "<｜latest_reminder｜>",
                           "<｜action｜>",
                           "<｜query｜>",
                           "<｜authority｜>",
                           "<｜domain｜>",
                           "<｜task｜>",
                           "<｜political｜>",
                           "<｜entity｜>",
                           "<｜title｜>",
                           "<｜safety｜>",
                           "<｜answer｜>",
                           "<｜search｜>",
                           "<dsml:",
                           "</dsml:",
                           "<｜search▁begin｜>",
                           "<｜search▁end｜>",
                           "<｜extracted_url｜>",
                           "<｜read_url｜>",
                           "<｜end_of_query｜>"})
    names.emplace_back(name);
  for (int n = 21; names.size() < 129262 - 128000; n++)
    names.push_back(fmt::format("<|place_holder_mm_span_{:04}|>", n));
  for (int n = 0; names.size() < 129280 - 128000; n++)
    names.push_back(fmt::format("<|stand_in_{}|>", n));
  return names;
}

// DeepSeek V4's vocabulary, from the file tests/data/text/merges.txt in `test_data`.
inline Result<Vocab> v4_vocab(const std::string& test_data) {
  NW_ASSIGN(const std::string merges, read_file(test_data + "/text/merges.txt"));
  Vocab v = vocab_from_merges(merges);
  for (const auto& name : v4_added_tokens()) add_control_token(v, name);
  return v;
}

// 256 bytes, a few merges and the controls that the template needs: for tests of structure.
inline Vocab tiny_vocab() {
  Vocab v = vocab_from_merges("a b\nab c\nĠ t\nh e\nĠt he\nâ Ģ\na a\naa aa\nĠ Ġ\nĠĠ ĠĠ\nĊ Ċ\n");
  for (const char* name : {"<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜",
                           "<｜latest_reminder｜>", "<｜fim▁begin｜>", "<｜fim▁hole｜>",
                           "<｜fim▁end｜>", "<｜place▁holder▁no▁0｜>", "<｜query｜>"})
    add_control_token(v, name);
  return v;
}

}  // namespace narwhal::text
