// Which tokens fit inside one terminal from one place in it, and where tokens leave it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "grammar/matcher.h"
#include "grammar/token_trie.h"

namespace narwhal::grammar {

struct TokenSet {
  std::vector<int32_t> ids;     // few tokens
  TokenMask mask;               // or many
  std::vector<uint32_t> exits;  // nodes of the trie with children, where the terminal may end

  void add_to(TokenMask& out) const;
};
using TokenSetPtr = std::shared_ptr<const TokenSet>;

// The bounds of a string that stands at `at`, counted from there, as far as one token can reach: a
// bound further away is as good as any other such bound.
StringBounds bounds_in_reach(const TokenTrie& trie, const Terminal& string, const Position& at);

// Of a string at `at`; only how far the count is from the bounds matters, and only up to the length
// of the longest token. Shared by all grammars over a vocabulary. Any thread.
class StringTokens {
 public:
  TokenSetPtr find(const TokenTrie& trie, const Terminal& terminal, const Position& at);

 private:
  using Key = std::tuple<StringForm, uint32_t, int64_t, int64_t>;
  std::mutex mutex_;
  std::map<Key, TokenSetPtr> sets_;
};

// Of an automaton, by state. One grammar over one vocabulary. Any thread.
class DfaTokens {
 public:
  TokenSetPtr find(const TokenTrie& trie, const Terminal& terminal, uint32_t index,
                   const Position& at);

 private:
  std::mutex mutex_;
  std::map<std::pair<uint32_t, uint32_t>, TokenSetPtr> sets_;
};

// Walks the subtree below `root` as far as advance(Position&, byte) allows: on_token(id) for what
// fits, on_exit(node) where the terminal may end and longer tokens exist. Returns the nodes seen.
template <class Advance, class OnToken, class OnExit>
size_t walk_trie(const TokenTrie& trie, uint32_t root, const Position& start,
                 const Advance& advance, const OnToken& on_token, const OnExit& on_exit) {
  struct Level {
    uint32_t end;
    Position at;
  };
  const auto nodes = trie.nodes();
  std::vector<Level> levels;
  levels.reserve(trie.max_token_bytes() + 2);
  levels.push_back({nodes[root].end, start});
  size_t n_seen = 0;
  for (uint32_t i = root + 1; i < nodes[root].end;) {
    while (levels.back().end <= i) levels.pop_back();
    const TokenTrie::Node& node = nodes[i];
    Position at = levels.back().at;
    const int effect = advance(at, node.byte);
    n_seen++;
    if (effect == kDead) {
      i = node.end;
      continue;
    }
    for (int32_t t = node.token; t >= 0; t = trie.next_same(t)) on_token(t);
    const bool has_children = i + 1 < node.end;
    if ((effect & kMayEnd) && has_children) on_exit(i);
    if (has_children && (effect & kGoesOn)) {
      levels.push_back({node.end, at});
      i++;
    } else {
      i = node.end;
    }
  }
  return n_seen;
}

}  // namespace narwhal::grammar
