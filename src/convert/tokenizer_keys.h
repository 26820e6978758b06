// tokenizer.json of a checkpoint -> the tokenizer.ggml.* keys (spec: GGUF section 4).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gguf/writer.h"
#include "narwhal/status.h"

namespace narwhal {

// Names decide which tokens begin and end a text, never fixed ids. A vocabulary smaller than the
// model's n_vocab rows is filled up with control tokens "[PADn]". kBadInput when it is larger, not
// byte-level BPE, or does not make a tokenizer; what is unusual but works goes to `warnings`.
Status write_tokenizer(std::string_view tokenizer_json, int n_vocab, gguf::Writer& writer,
                       std::vector<std::string>& warnings);

}  // namespace narwhal
