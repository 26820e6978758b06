#include "convert/tokenizer_keys.h"

#include <fmt/format.h>

#include <cstdint>

#include "gguf/names.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

namespace narwhal {

Status write_tokenizer(std::string_view tokenizer_json, int n_vocab, gguf::Writer& writer,
                       std::vector<std::string>& warnings) {
  namespace names = gguf::names;
  NW_ASSIGN(text::Vocab vocab, text::vocab_from_tokenizer_json(tokenizer_json));
  const auto n_rows = static_cast<size_t>(n_vocab), n_tokens = vocab.tokens.size();
  if (n_tokens > n_rows)
    return bad_input(
        fmt::format("{} tokens, expected at most the model's vocabulary of {}; take "
                    "the tokenizer.json that came with the weights",
                    n_tokens, n_rows));
  if (n_tokens < n_rows)
    warnings.push_back(
        fmt::format("the tokenizer has {} tokens and the model {}; the rest is named [PADn]",
                    n_tokens, n_rows));
  for (size_t id = n_tokens; id < n_rows; id++) {
    vocab.tokens.push_back(fmt::format("[PAD{}]", id));
    vocab.types.push_back(text::Vocab::kControl);
  }
  NW_ASSIGN(const text::Tokenizer tokenizer, text::Tokenizer::create(vocab));

  writer.add_string(names::kTokenizerModel, "gpt2");
  writer.add_string(names::kTokenizerPre, "joyai-llm");
  writer.add_strings(names::kTokens, vocab.tokens);
  writer.add_i32s(names::kTokenTypes, vocab.types);
  writer.add_strings(names::kMerges, vocab.merges);
  writer.add_u32(names::kBosId, static_cast<uint32_t>(tokenizer.bos()));
  writer.add_u32(names::kEosId, static_cast<uint32_t>(tokenizer.eos()));
  if (tokenizer.pad() >= 0) writer.add_u32(names::kPadId, static_cast<uint32_t>(tokenizer.pad()));
  writer.add_bool(names::kAddBos, false);
  return ok_status();
}

}  // namespace narwhal
