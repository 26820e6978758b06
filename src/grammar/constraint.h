// What the model may sample next, token by token, so that the whole matches a grammar.
//
//   NW_ASSIGN(auto grammar, compile_json_schema(schema, {}));
//   const Constraint start = Constraint::create(grammar, trie);   // keep it: copies share its
//   masks for (Constraint c = start; !c.ended();) {
//     const int32_t id = sample(logits, c.mask());                // only tokens whose bit is set
//     NW_CHECK(c.accept(id), "token {} was masked", id);
//   }
//
// The mask is exact for the grammar's text: every token it allows can be continued to a whole
// document, and if the vocabulary has a token for every byte there is always one to continue with.
//
// Cost at 129,280 tokens: a mask that was met before, about a microsecond; one of a new place
// under a string, number or key, tens of microseconds; the first string of a vocabulary, a few
// milliseconds. See bench/grammar_bench.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "grammar/grammar.h"
#include "grammar/matcher.h"
#include "grammar/token_trie.h"

namespace narwhal {

// A value: copies go their own ways from where they were taken (draft tokens, branches) and share
// the computed masks. One object belongs to one thread at a time; copies may run at once.
class Constraint {
 public:
  static Constraint create(std::shared_ptr<const Grammar> grammar,
                           std::shared_ptr<const TokenTrie> trie);

  // Moves past a token: bytes, a control of the grammar, or an end token. False when the mask does
  // not have it; nothing has changed then.
  bool accept(int32_t token);
  // The same for text, whatever tokens it came in. All of it or nothing.
  bool accept_bytes(std::string_view bytes);

  // A bit per token that may come next; end tokens when can_end(). Empty of bits after the end.
  // Valid until the object changes.
  std::span<const uint64_t> mask();
  bool allows(int32_t token) { return token < trie_->n_tokens() && test_bit(mask(), token); }

  // Whether the document may end here, and whether it must.
  bool can_end() const;
  bool must_end() const;
  // An end token was accepted.
  bool ended() const { return ended_; }

  // What must come next, as far as there is no choice: text, then possibly a control. The server
  // may feed it without sampling, tokenised as it likes.
  struct Forced {
    std::string text;
    int32_t control = -1;
  };
  Forced forced(size_t max_bytes = 1024) const;

  // Back to the beginning.
  void reset();

 private:
  struct Shared;  // the masks
  Constraint() = default;
  std::shared_ptr<const TokenMask> compute_mask() const;

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const TokenTrie> trie_;
  std::shared_ptr<Shared> shared_;
  grammar::Threads threads_;
  std::shared_ptr<const TokenMask> mask_;  // null: not asked for since the last change
  bool ended_ = false;
};

}  // namespace narwhal
