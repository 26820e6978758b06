#include "text/vocab.h"

#include <fmt/format.h>

#include <array>

#include "base/json.h"
#include "text/unicode.h"

namespace narwhal::text {
namespace {

constexpr int64_t kMaxTokens = 1 << 24;

// All code points of the alphabet are below U+0144.
struct ByteAlphabet {
  std::array<std::string, 256> letter;  // byte -> UTF-8
  std::array<int16_t, 0x144> byte;      // code point -> byte or -1

  ByteAlphabet() {
    byte.fill(-1);
    int next = 0x100;
    for (int b = 0; b < 256; b++) {
      const bool same = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const int code = same ? b : next++;
      byte[code] = static_cast<int16_t>(b);
      if (code >= 0x80) letter[b] = static_cast<char>(0xC0 | code >> 6);
      letter[b] += static_cast<char>(code < 0x80 ? code : 0x80 | (code & 0x3F));
    }
  }
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet a;
  return a;
}

Status put(Vocab& vocab, const std::string& token, const Json& id, int32_t type) {
  const int64_t i = id.as_int(-1);
  if (i < 0 || i >= kMaxTokens)
    return bad_input(fmt::format("tokenizer.json: token \"{}\" has id {}, expected 0..{}", token,
                                 id.dump(), kMaxTokens - 1));
  if (i >= vocab.tokens.size()) {
    vocab.tokens.resize(i + 1);
    vocab.types.resize(i + 1);
  }
  if (vocab.types[i] == Vocab::kNormal && type == Vocab::kNormal)
    return bad_input(fmt::format("tokenizer.json: id {} is given to \"{}\" and to \"{}\"", i,
                                 vocab.tokens[i], token));
  vocab.tokens[i] = token;
  vocab.types[i] = type;
  return ok_status();
}

Status put_merge(Vocab& vocab, const Json& merge) {
  if (merge.is_string()) {
    vocab.merges.push_back(merge.text);
  } else if (merge.items.size() == 2 && merge.items[0].is_string() && merge.items[1].is_string()) {
    vocab.merges.push_back(merge.items[0].text + ' ' + merge.items[1].text);
  } else {
    return bad_input(fmt::format(
        "tokenizer.json: merge {} is {}, expected \"left right\" or [\"left\", \"right\"]",
        vocab.merges.size(), merge.dump()));
  }
  return ok_status();
}

}  // namespace

Result<Vocab> vocab_from_tokenizer_json(std::string_view json) {
  auto parsed = Json::parse(json);
  if (!parsed.ok()) return parsed.status().within("tokenizer.json");
  const Json& model = (*parsed)["model"];
  if (const Json& type = model["type"]; !type.is_null() && type.text != "BPE")
    return bad_input(fmt::format(
        "tokenizer.json: model type {}, expected \"BPE\"; use DeepSeek V4's file", type.dump()));
  if (!model["vocab"].is_object() || !model["merges"].is_array())
    return bad_input("tokenizer.json: model.vocab or model.merges is missing");

  Vocab vocab;
  for (const auto& [token, id] : model["vocab"].members)
    NW_TRY(put(vocab, token, id, Vocab::kNormal));
  for (const Json& merge : model["merges"].items) NW_TRY(put_merge(vocab, merge));
  for (const Json& added : (*parsed)["added_tokens"].items)
    NW_TRY(put(vocab, added["content"].text, added["id"], Vocab::kControl));
  for (size_t i = 0; i < vocab.types.size(); i++)
    if (vocab.types[i] == 0)
      return bad_input(
          fmt::format("tokenizer.json: no token has id {} of {}", i, vocab.types.size()));
  return vocab;
}

std::string to_printable(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += alphabet().letter[static_cast<uint8_t>(c)];
  return out;
}

std::optional<std::string> from_printable(std::string_view printable) {
  const ByteAlphabet& a = alphabet();
  std::string out;
  for (size_t i = 0; i < printable.size();) {
    const Utf8Char c = utf8_decode(printable, i);
    if (c.state != Utf8Char::kValid || c.code >= a.byte.size() || a.byte[c.code] < 0)
      return std::nullopt;
    out += static_cast<char>(a.byte[c.code]);
    i += c.length;
  }
  return out;
}

}  // namespace narwhal::text
