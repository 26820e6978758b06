#include "synth/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/file.h"
#include "gguf/names.h"
#include "text/tokenizer.h"

namespace narwhal::synth_detail {
namespace {

namespace names = gguf::names;
using text::Vocab;

constexpr std::string_view kPlaceholder = "<｜place▁holder▁no▁";

// The controls of the chat template, by the names that the large model's vocabulary gives them.
constexpr std::string_view kControls[] = {
    "<｜fim▁hole｜>",  "<｜fim▁begin｜>", "<｜fim▁end｜>", "<｜User｜>",
    "<｜Assistant｜>", "<|EOT|>",         "<think>",       "</think>",
    "｜DSML｜",        "<｜action｜>",    "<｜query｜>",   "<｜latest_reminder｜>",
    "<｜authority｜>", "<｜domain｜>",    "<｜task｜>",    "<｜title｜>",
    "<｜read_url｜>",
};

// In the order of merging; each joins into one token ("Ġ" is a space).
constexpr std::string_view kPairs[] = {
    "Ġ t", "Ġ a",  "i n", "h e", "r e",  "o n", "Ġt he", "e r",  "Ġ s", "a t", "Ġ w",   "Ġ o",
    "e n", "Ġ c",  "i t", "i s", "a n",  "o r", "e s",   "Ġ b",  "e d", "Ġ f", "in g",  "Ġ p",
    "o u", "Ġa n", "a l", "a r", "Ġt o", "Ġ m", "Ġo f",  "Ġ in", "Ġ d", "Ġ h", "Ġan d", "Ġ Ġ"};

std::string joined(std::string_view pair) {
  std::string s(pair);
  s.erase(s.find(' '), 1);
  return s;
}

Vocab byte_level(size_t room) {
  Vocab v;
  for (const std::string_view name : {text::kBosName, text::kEosName, text::kPadName}) {
    v.tokens.emplace_back(name);
    v.types.push_back(Vocab::kControl);
  }
  const auto add = [&v](std::string token) {
    v.tokens.push_back(std::move(token));
    v.types.push_back(Vocab::kNormal);
  };
  for (int b = 0; b < 256; b++) add(text::to_printable(std::string(1, static_cast<char>(b))));
  for (const std::string_view pair : kPairs) {
    if (v.tokens.size() == room) break;
    v.merges.emplace_back(pair);
    add(joined(pair));
  }
  return v;
}

// Keeps the first `n` tokens and the merges that they can make.
void truncate(size_t n, Vocab& v) {
  v.tokens.resize(n);
  v.types.resize(n);
  const std::unordered_set<std::string_view> kept(v.tokens.begin(), v.tokens.end());
  std::erase_if(v.merges, [&kept](const std::string& m) {
    const size_t gap = m.find(' ');
    const std::string_view all = m;
    return gap == std::string::npos || !kept.contains(all.substr(0, gap)) ||
           !kept.contains(all.substr(gap + 1)) || !kept.contains(joined(m));
  });
}

// Names the controls that are missing: placeholders are renamed first, from the last backwards,
// then the vocabulary grows.
void add_controls(Vocab& v) {
  const std::unordered_set<std::string> known(v.tokens.begin(), v.tokens.end());
  std::vector<size_t> placeholders;
  for (size_t i = 0; i < v.tokens.size(); i++)
    if (v.types[i] != Vocab::kNormal && v.tokens[i].starts_with(kPlaceholder))
      placeholders.push_back(i);
  for (const std::string_view name : kControls) {
    if (known.contains(std::string(name))) continue;
    if (placeholders.empty()) {
      v.tokens.emplace_back(name);
      v.types.push_back(Vocab::kControl);
    } else {
      v.tokens[placeholders.back()] = name;
      placeholders.pop_back();
    }
  }
}

void pad(size_t n_vocab, Vocab& v) {
  // Far above the numbers that real placeholders carry.
  for (int n = 1000000; v.tokens.size() < n_vocab; n++) {
    v.tokens.push_back(fmt::format("{}{}｜>", kPlaceholder, n));
    v.types.push_back(Vocab::kControl);
  }
}

int32_t find(const Vocab& v, std::string_view name) {
  const auto it = std::find(v.tokens.begin(), v.tokens.end(), name);
  return it == v.tokens.end() ? -1 : static_cast<int32_t>(it - v.tokens.begin());
}

}  // namespace

Result<Vocab> make_vocabulary(const std::string& path, int n_vocab) {
  constexpr int kLeast = 3 + 256 + static_cast<int>(std::size(kControls));
  if (n_vocab < kLeast)
    return usage(fmt::format(
        "--vocab {}: expected at least {}, for the bytes and the control tokens", n_vocab, kLeast));
  const size_t room = n_vocab - std::size(kControls);
  Vocab v;
  if (path.empty()) {
    v = byte_level(room);
  } else {
    NW_ASSIGN(const std::string json, read_file(path));
    auto read = text::vocab_from_tokenizer_json(json);
    if (!read.ok()) return read.status().within(path);
    v = *std::move(read);
    if (v.tokens.size() > static_cast<size_t>(n_vocab)) truncate(room, v);
  }
  add_controls(v);
  if (v.tokens.size() > static_cast<size_t>(n_vocab))
    return usage(fmt::format("{}: {} tokens with the control tokens it lacks, --vocab is {}", path,
                             v.tokens.size(), n_vocab));
  pad(n_vocab, v);
  v.bos = find(v, text::kBosName);
  v.eos = find(v, text::kEosName);
  v.pad = find(v, text::kPadName);
  // The engine will build the same tokenizer; better refused now than after 80 GiB.
  const Status status = text::Tokenizer::create(v).status();
  if (!status.ok()) return path.empty() ? status : status.within(path);
  return v;
}

void write_vocabulary(const Vocab& v, gguf::Writer& w) {
  w.add_string(names::kTokenizerModel, "gpt2");
  w.add_string(names::kTokenizerPre, "joyai-llm");
  w.add_strings(names::kTokens, v.tokens);
  w.add_i32s(names::kTokenTypes, v.types);
  w.add_strings(names::kMerges, v.merges);
  w.add_u32(names::kBosId, static_cast<uint32_t>(v.bos));
  w.add_u32(names::kEosId, static_cast<uint32_t>(v.eos));
  w.add_u32(names::kPadId, static_cast<uint32_t>(v.pad >= 0 ? v.pad : v.eos));
  w.add_bool(names::kAddBos, false);
}

}  // namespace narwhal::synth_detail
