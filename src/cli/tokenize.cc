// narwhal tokenize: text to token ids and back.
#include <fmt/format.h>

#include <cstdio>

#include "base/file.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/setup.h"
#include "engine/vocabulary.h"
#include "model/config.h"
#include "text/detokenizer.h"
#include "text/vocab.h"

namespace narwhal::cli {
namespace {

Result<std::unique_ptr<text::Tokenizer>> tokenizer_of_model(const std::string& path) {
  NW_ASSIGN(const gguf::File file, open_model_file(path));
  NW_ASSIGN(const Config config, read_config(file));
  NW_ASSIGN(auto tokenizer, read_tokenizer(file, config.n_vocab));
  if (!tokenizer) {
    return bad_input(
        fmt::format("{}: the file has no tokenizer; give one with --tokenizer", file.name()));
  }
  return tokenizer;
}

Result<std::unique_ptr<text::Tokenizer>> open_tokenizer(const Args& args) {
  if (!args.given("--tokenizer")) return tokenizer_of_model(args.text("--model"));
  const std::string& path = args.text("--tokenizer");
  NW_ASSIGN(const std::string json, read_file(path));
  auto vocab = text::vocab_from_tokenizer_json(json);
  NW_TRY(vocab.status().within(path));
  auto tokenizer = text::Tokenizer::create(*std::move(vocab));
  NW_TRY(tokenizer.status().within(path));
  return std::make_unique<text::Tokenizer>(*std::move(tokenizer));
}

struct Codec {
  const text::Tokenizer& tokenizer;
  bool special;

  std::vector<int32_t> encode(std::string_view text) const {
    return special ? tokenizer.encode_special(text) : tokenizer.encode(text);
  }
};

Json ids_json(const std::vector<int32_t>& ids) {
  Json list = Json::array();
  for (int32_t id : ids) list.push(Json::of(static_cast<int64_t>(id)));
  return list;
}

// The bytes of one token as text; an incomplete character shows as U+FFFD.
std::string piece(const text::Tokenizer& tokenizer, int32_t id) {
  return text::to_utf8(tokenizer.bytes(id));
}

Status encode_text(const Codec& codec, const Args& args, const std::string& text) {
  const std::vector<int32_t> ids = codec.encode(text);
  if (args.flag("--json")) {
    Json j = Json::object();
    j.set("ids", ids_json(ids));
    if (args.flag("--pieces")) {
      Json pieces = Json::array();
      for (int32_t id : ids) pieces.push(Json::of(piece(codec.tokenizer, id)));
      j.set("pieces", std::move(pieces));
    }
    j.set("count", Json::of(static_cast<int64_t>(ids.size())));
    fmt::print("{}\n", j.dump());
  } else if (args.flag("--pieces")) {
    for (int32_t id : ids) fmt::print("{:>7}  {}\n", id, json_quote(piece(codec.tokenizer, id)));
  } else {
    fmt::print("{}\n", fmt::join(ids, " "));
  }
  return ok_status();
}

Status decode_text(const Codec& codec, const Args& args, const std::string& text) {
  NW_ASSIGN(const auto ids, parse_ids(text, codec.tokenizer.vocab_size()));
  const std::string bytes = codec.tokenizer.decode(ids);
  if (args.flag("--json")) {
    Json j = Json::object();
    j.set("text", Json::of(text::to_utf8(bytes)));
    fmt::print("{}\n", j.dump());
  } else {  // byte for byte, nothing added
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
  }
  return ok_status();
}

Status jsonl_line(const Codec& codec, const Args& args, std::string_view line) {
  NW_ASSIGN(const Json value, Json::parse(line));
  if (args.flag("--decode")) {
    if (!value.is_array()) return bad_input("expected a JSON array of token ids");
    NW_ASSIGN(const auto ids, parse_ids(line, codec.tokenizer.vocab_size()));
    fmt::print("{}\n", json_quote(text::to_utf8(codec.tokenizer.decode(ids))));
    return ok_status();
  }
  if (!value.is_string()) return bad_input("expected a JSON string");
  fmt::print("{}\n", ids_json(codec.encode(value.text)).dump());
  return ok_status();
}

Status each_jsonl_line(const Codec& codec, const Args& args, std::string_view text) {
  for (size_t number = 1; !text.empty(); number++) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    NW_TRY(jsonl_line(codec, args, line).within(fmt::format("line {}", number)));
  }
  return ok_status();
}

}  // namespace

Status tokenize(const Args& args) {
  NW_ASSIGN(const auto tokenizer, open_tokenizer(args));
  NW_ASSIGN(const std::string text, input_text(args));
  const Codec codec{*tokenizer, args.flag("--special")};
  if (args.flag("--jsonl")) return each_jsonl_line(codec, args, text);
  return args.flag("--decode") ? decode_text(codec, args, text) : encode_text(codec, args, text);
}

}  // namespace narwhal::cli
