// The same text in other tokens.
//
// Tokenisation is not unique: what the model sampled may be cut otherwise than the tokenizer cuts
// the text when a client sends it back. The state that was computed is worth more than the
// tokenizer's choice, so such a prompt goes on in the tokens of the state. Text never equals a
// control token, whatever it spells.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace narwhal::serve {

// The longest beginning of a prompt that a state spells, byte for byte, up to a place where it may
// go on in other tokens: behind a control token, or where the state ends.
struct Spelling {
  int64_t n_state = 0;   // leading tokens of the state
  int64_t n_prompt = 0;  // leading tokens of the prompt that they spell,
  size_t n_bytes = 0;    // and so many bytes of the next one
};
Spelling spelled_prefix(const text::Tokenizer& tokenizer, std::span<const int32_t> state,
                        std::span<const int32_t> prompt);

// The prompt with that beginning in the state's tokens. What follows keeps its own, but for the
// rest of a text that the state's end cuts in two.
std::vector<int32_t> respell(const text::Tokenizer& tokenizer, std::span<const int32_t> state,
                             std::span<const int32_t> prompt, const Spelling& spelling);

// Bytes that are equal exactly when the texts are, controls included: the key of a remembered text
// (KvStore::put_text).
std::string text_key(const text::Tokenizer& tokenizer, std::span<const int32_t> tokens);

}  // namespace narwhal::serve
