// The vocabulary as model files carry it, and the printable byte alphabet it is written in.
//
//   NW_ASSIGN(Vocab vocab, vocab_from_tokenizer_json(text));
//   NW_ASSIGN(Tokenizer tokenizer, Tokenizer::create(vocab));
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "narwhal/status.h"

namespace narwhal::text {

struct Vocab {
  static constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4;

  std::vector<std::string> tokens;  // [id]; base tokens in the printable alphabet, added ones plain
  std::vector<int32_t> types;       // [id]; kNormal is a base token, anything else an added token
  std::vector<std::string> merges;  // "left right" in rank order, strongest first
  int32_t bos = -1, eos = -1, pad = -1;  // -1: Tokenizer::create() looks the names below up
};

inline constexpr std::string_view kBosName = "<｜begin▁of▁sentence｜>";
inline constexpr std::string_view kEosName = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kPadName = "<｜▁pad▁｜>";

// A Hugging Face tokenizer.json, as text. Added tokens get kControl whatever their "special" flag
// says (it is false for the role, think and DSML tokens). kBadInput when it is not byte-level BPE
// or when its ids are not 0..n-1.
Result<Vocab> vocab_from_tokenizer_json(std::string_view json);

// Bytes 0x21-0x7E, 0xA1-0xAC and 0xAE-0xFF stand for the code point of the same number; the other
// 68, ascending, are U+0100, U+0101 ... (space is U+0120). The same alphabet as GPT-2's.
std::string to_printable(std::string_view bytes);
// Nullopt when a character is outside the alphabet.
std::optional<std::string> from_printable(std::string_view printable);

}  // namespace narwhal::text
