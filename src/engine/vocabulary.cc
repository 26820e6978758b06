#include "engine/vocabulary.h"

#include <fmt/format.h>

#include "gguf/names.h"
#include "text/vocab.h"

namespace narwhal {
namespace {

namespace names = gguf::names;

Result<text::Vocab> read_vocab(const gguf::File& file) {
  NW_ASSIGN(const std::string_view model, file.get_string(names::kTokenizerModel));
  if (model != "gpt2")
    return bad_input(fmt::format("{} is \"{}\", expected \"gpt2\" (byte-level BPE)",
                                 names::kTokenizerModel, model));
  text::Vocab vocab;
  NW_ASSIGN(const auto tokens, file.get_strings(names::kTokens));
  vocab.tokens.assign(tokens.begin(), tokens.end());
  NW_ASSIGN(const auto types, file.get_ints(names::kTokenTypes));
  vocab.types.assign(types.begin(), types.end());
  NW_ASSIGN(const auto merges, file.get_strings(names::kMerges));
  vocab.merges.assign(merges.begin(), merges.end());
  NW_ASSIGN(const int64_t bos, file.get_int(names::kBosId));
  NW_ASSIGN(const int64_t eos, file.get_int(names::kEosId));
  vocab.bos = static_cast<int32_t>(bos);
  vocab.eos = static_cast<int32_t>(eos);
  if (const auto pad = file.get_int(names::kPadId); pad.ok())
    vocab.pad = static_cast<int32_t>(*pad);
  return vocab;
}

}  // namespace

Result<std::unique_ptr<text::Tokenizer>> read_tokenizer(const gguf::File& file, int64_t n_vocab) {
  if (!file.has(names::kTokens)) return std::unique_ptr<text::Tokenizer>();
  auto vocab = read_vocab(file);
  if (!vocab.ok()) return vocab.status().within(file.name());
  if (static_cast<int64_t>(vocab->tokens.size()) != n_vocab)
    return bad_input(fmt::format("{}: {} tokens in the vocabulary, expected {}", file.name(),
                                 vocab->tokens.size(), n_vocab));
  auto tokenizer = text::Tokenizer::create(*vocab);
  if (!tokenizer.ok()) return tokenizer.status().within(file.name());
  return std::make_unique<text::Tokenizer>(*std::move(tokenizer));
}

}  // namespace narwhal
