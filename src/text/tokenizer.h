// Text to token ids and back, exactly as the model's reference tokenizer (byte-level BPE).
//
//   NW_ASSIGN(Tokenizer tokenizer, Tokenizer::create(vocab));
//   tokenizer.encode("Hello world!");            // {19923, 2058, 3}
//   tokenizer.decode({{19923, 2058, 3}});        // "Hello world!"
//   tokenizer.id_of("</think>");                 // 128822
//
// Base tokens are byte strings. Added tokens ("<｜User｜>", "</think>" ...) are controls: plain
// encode() never yields one, so text cannot forge structure. decode(encode(b)) == b for any bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "narwhal/status.h"
#include "text/bpe.h"
#include "text/vocab.h"

namespace narwhal::text {

// Immutable after create(), so every const member may be called from several threads at once.
class Tokenizer {
 public:
  // kBadInput naming the token or merge at fault: a byte without a token, a merge of unknown
  // tokens, a token twice, no begin or end of sentence.
  static Result<Tokenizer> create(const Vocab& vocab);

  // Ids of plain text. Linear in time but for the merging of long pieces (n log n).
  std::vector<int32_t> encode(std::string_view text) const;
  // Recognises added tokens everywhere, leftmost and longest first, and encodes the text between
  // them. For prompts that are already rendered; never for text from elsewhere.
  std::vector<int32_t> encode_special(std::string_view text) const;

  // A base token's bytes, an added token's literal in UTF-8. 0 <= id < vocab_size().
  std::string_view bytes(int32_t id) const;
  std::string decode(std::span<const int32_t> ids) const;

  // The added token spelled so, or -1.
  int32_t id_of(std::string_view literal) const;
  // Whether `id` is an added token.
  bool is_control(int32_t id) const;

  struct Match {
    size_t begin, length;
    int32_t id;
  };
  // The next added token at or after `from`, leftmost and longest first.
  std::optional<Match> find_added(std::string_view text, size_t from) const;

  int32_t vocab_size() const { return static_cast<int32_t>(offsets_.size()) - 1; }
  int32_t bos() const { return bos_; }
  int32_t eos() const { return eos_; }
  int32_t pad() const { return pad_; }  // -1 when the vocabulary has none

  Tokenizer(Tokenizer&&) = default;
  Tokenizer& operator=(Tokenizer&&) = default;

 private:
  Tokenizer() = default;
  using Index = std::unordered_map<std::string_view, int32_t>;
  Status add_tokens(const Vocab& vocab, Index& base);
  Status add_merges(const Vocab& vocab, const Index& base);
  void encode_to(std::string_view text, std::vector<int32_t>& ids) const;

  std::vector<char> blob_;       // the bytes of all tokens; views below point into it
  std::vector<size_t> offsets_;  // [vocab_size + 1]
  std::vector<bool> is_control_;
  std::array<int32_t, 256> byte_ids_{};
  MergeTable merges_;
  Index added_;
  std::array<bool, 256> begins_added_{};
  std::vector<size_t> added_lengths_;  // each once, longest first
  int32_t bos_ = -1, eos_ = -1, pad_ = -1;
};

}  // namespace narwhal::text
