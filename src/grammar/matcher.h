// The readings of a text under a grammar: a set of threads, each a place in a terminal and what is
// still open around it. A pushdown automaton whose stacks share their lower parts.
//
// Threads are independent, and each can be continued to a whole document, so dropping some only
// narrows what is offered. That happens beyond kMaxThreads readings of an ambiguous text.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "grammar/grammar.h"

namespace narwhal::grammar {

inline constexpr size_t kMaxThreads = 1024;

// Where to go on when what is being read ends.
//   sequence: a = next child.  list: a = items so far.
//   members:  a = 2 * first member not passed yet + (a separator was read), b = members so far.
struct Frame {
  NodeId node;
  uint64_t a, b;
  uint32_t depth;  // lists and objects open, this one included
  uint64_t hash;   // of this and all parents
  std::shared_ptr<const Frame> parent;

  Frame(NodeId node_, uint64_t a_, uint64_t b_, uint32_t depth_,
        std::shared_ptr<const Frame> parent_);
};
using Rest = std::shared_ptr<const Frame>;  // null: the document ends

struct Thread {
  static constexpr uint32_t kEnd = ~0u;  // as terminal: the document may end here

  uint32_t terminal;
  Position at;
  Rest rest;

  uint64_t hash() const;
};
using Threads = std::vector<Thread>;

// The readings before the first byte, after the terminal before `rest` has ended, and after one
// more byte or control token (none: it cannot follow).
Threads threads_at_start(const Grammar& grammar);
Threads threads_after(const Grammar& grammar, const Rest& rest);
Threads step_byte(const Grammar& grammar, const Threads& threads, uint8_t byte);
Threads step_control(const Grammar& grammar, const Threads& threads, int32_t token);

bool may_end(const Threads& threads);

// What `byte` does to a terminal that stands at `at`, which moves. Effect bits.
int advance(const Terminal& terminal, Position& at, uint8_t byte);

inline int advance_literal(const Terminal& t, Position& at, uint8_t byte) {
  if (static_cast<uint8_t>(t.literal[at.state]) != byte) return kDead;
  return ++at.state == t.literal.size() ? kMayEnd : kGoesOn;
}
inline int advance_dfa(const Terminal& t, Position& at, uint8_t byte) {
  at.state = t.dfa.step(at.state, byte);
  if (at.state == Dfa::kDead) return kDead;
  return (t.dfa.has_edges(at.state) ? kGoesOn : 0) | (t.dfa.accepts(at.state) ? kMayEnd : 0);
}

inline uint64_t mix(uint64_t h, uint64_t v) {
  h = (h ^ (h >> 31)) * 0x9E3779B97F4A7C15u + v;
  h = (h ^ (h >> 29)) * 0xBF58476D1CE4E5B9u;
  return h ^ (h >> 32);
}

}  // namespace narwhal::grammar
