#include "grammar/token_sets.h"

#include <algorithm>

namespace narwhal::grammar {
namespace {

constexpr size_t kFew = 1024;          // more tokens than these are kept as a mask
constexpr size_t kMaxSets = 512;       // sets kept of one kind; at 16 KiB, 8 MiB
constexpr size_t kWorthKeeping = 512;  // nodes of the trie seen

template <class Advance>
TokenSetPtr compute(const TokenTrie& trie, const Position& start, const Advance& advance,
                    size_t& n_seen) {
  auto set = std::make_shared<TokenSet>();
  n_seen = walk_trie(
      trie, 0, start, advance, [&](int32_t id) { set->ids.push_back(id); },
      [&](uint32_t node) { set->exits.push_back(node); });
  if (set->ids.size() > kFew) {
    set->mask.assign(trie.n_words(), 0);
    for (const int32_t id : set->ids) set_bit(set->mask, id);
    set->ids = {};
  }
  return set;
}

template <class Map, class Key, class Advance>
TokenSetPtr find_or_compute(std::mutex& mutex, Map& sets, const Key& key, const TokenTrie& trie,
                            const Position& start, const Advance& advance) {
  {
    const std::lock_guard lock(mutex);
    const auto it = sets.find(key);
    if (it != sets.end()) return it->second;
  }
  size_t n_seen = 0;
  TokenSetPtr set = compute(trie, start, advance, n_seen);
  if (n_seen < kWorthKeeping) return set;
  const std::lock_guard lock(mutex);
  if (sets.size() >= kMaxSets) sets.clear();
  sets.emplace(key, set);
  return set;
}

}  // namespace

void TokenSet::add_to(TokenMask& out) const {
  for (const int32_t id : ids) set_bit(out, id);
  for (size_t i = 0; i < mask.size(); i++) out[i] |= mask[i];
}

StringBounds bounds_in_reach(const TokenTrie& trie, const Terminal& string, const Position& at) {
  const auto far = static_cast<int64_t>(trie.max_token_bytes()) + 3;
  return {std::clamp<int64_t>(string.bounds.min - at.count, -far, far),
          std::clamp<int64_t>(string.bounds.max - at.count, -far, far)};
}

TokenSetPtr StringTokens::find(const TokenTrie& trie, const Terminal& terminal,
                               const Position& at) {
  const StringBounds near = bounds_in_reach(trie, terminal, at);
  const auto advance = [&](Position& p, uint8_t byte) {
    return advance_string(terminal.form, near, p, byte);
  };
  return find_or_compute(mutex_, sets_, Key{terminal.form, at.state, near.min, near.max}, trie,
                         {at.state, 0}, advance);
}

TokenSetPtr DfaTokens::find(const TokenTrie& trie, const Terminal& terminal, uint32_t index,
                            const Position& at) {
  const auto advance = [&](Position& p, uint8_t byte) { return advance_dfa(terminal, p, byte); };
  return find_or_compute(mutex_, sets_, std::pair{index, at.state}, trie, at, advance);
}

}  // namespace narwhal::grammar
