// The vocabulary of a synthetic file: complete enough that the file runs like any other.
#pragma once

#include <string>

#include "gguf/writer.h"
#include "text/vocab.h"

namespace narwhal::synth_detail {

// Exactly n_vocab tokens, with every control token the prompt can need. From a tokenizer.json where
// `path` is not empty: a smaller vocabulary is padded with placeholders, a larger one keeps its
// first tokens and the merges among them. Otherwise the 256 bytes and a few common English pairs.
// kUsage when n_vocab is too small for the bytes and the controls.
Result<text::Vocab> make_vocabulary(const std::string& path, int n_vocab);

void write_vocabulary(const text::Vocab& vocab, gguf::Writer& writer);

}  // namespace narwhal::synth_detail
