// The vocabulary of a GGUF, for the tokenizer (GGUF section 4).
#pragma once

#include <memory>

#include "gguf/reader.h"
#include "narwhal/status.h"
#include "text/tokenizer.h"

namespace narwhal {

// Null when the file carries none. kBadInput when it is of another kind or inconsistent with
// `n_vocab`.
Result<std::unique_ptr<text::Tokenizer>> read_tokenizer(const gguf::File& file, int64_t n_vocab);

}  // namespace narwhal
