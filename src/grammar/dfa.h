// Deterministic automata over bytes: the leaves of a grammar (numbers, patterns, sets of literals).
//
//   NW_ASSIGN(Dfa digits, explore_dfa(0, ranges, step, accepts, 1000));
//   uint32_t s = Dfa::kStart;
//   for (uint8_t b : bytes) if ((s = digits.step(s, b)) == Dfa::kDead) break;
//
// Every state of a Dfa can still reach an accepting one: what has not failed can be finished.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "narwhal/status.h"

namespace narwhal::grammar {

struct ByteRange {
  uint8_t low, high;  // both included
};

// The 256 ranges of one byte.
std::span<const ByteRange> every_byte();

// Immutable once built; any thread.
class Dfa {
 public:
  static constexpr uint32_t kStart = 0, kDead = ~0u;

  struct Edge {
    uint8_t low, high;
    uint32_t to;
  };

  // edges[state]: disjoint, ascending. States that cannot reach an accepting one are cut off.
  static Dfa create(std::vector<std::vector<Edge>> edges, std::vector<bool> accepts);

  uint32_t step(uint32_t state, uint8_t byte) const {
    if (!dense_.empty()) {
      const uint16_t to = dense_[state * 256 + byte];
      return to == kNoState ? kDead : to;
    }
    for (uint32_t i = first_[state]; i < first_[state + 1]; i++)
      if (byte <= edges_[i].high) return byte >= edges_[i].low ? edges_[i].to : kDead;
    return kDead;
  }
  bool accepts(uint32_t state) const { return accepts_[state]; }
  bool has_edges(uint32_t state) const { return first_[state] < first_[state + 1]; }
  // Whether anything at all is accepted. Of an empty automaton no other member may be called.
  bool is_empty() const { return accepts_.empty(); }
  uint32_t n_states() const { return static_cast<uint32_t>(accepts_.size()); }
  bool matches(std::string_view text) const;

 private:
  static constexpr uint16_t kNoState = 0xFFFF;
  static constexpr uint32_t kMaxDense = 512;  // states that get a table of 256 entries each
  std::vector<uint32_t> first_;               // [n_states + 1] into edges_
  std::vector<Edge> edges_;
  std::vector<bool> accepts_;
  std::vector<uint16_t> dense_;  // [n_states][256], or empty
};

// The automaton that accepts exactly these texts. kUsage beyond `max_states`.
Result<Dfa> literals_dfa(std::span<const std::string> texts, size_t max_states);

// Builds the automaton of a recogniser given as code. State: ordered by <. step(state, byte) gives
// std::optional<State>, and must agree for all bytes of one range; bytes outside all ranges fail.
// kUsage beyond `max_states`.
template <class State, class Step, class Accepts>
Result<Dfa> explore_dfa(State start, std::span<const ByteRange> ranges, const Step& step,
                        const Accepts& accepts, size_t max_states) {
  std::map<State, uint32_t> ids;
  std::vector<const State*> todo;
  std::vector<std::vector<Dfa::Edge>> edges;
  std::vector<bool> accepting;
  const auto id_of = [&](State s) {
    const auto [it, is_new] = ids.emplace(std::move(s), static_cast<uint32_t>(ids.size()));
    if (is_new) todo.push_back(&it->first);
    return it->second;
  };
  id_of(std::move(start));
  for (size_t i = 0; i < todo.size(); i++) {
    if (todo.size() > max_states)
      return usage(fmt::format("needs an automaton of more than {} states", max_states));
    const State& from = *todo[i];
    accepting.push_back(accepts(from));
    auto& out = edges.emplace_back();
    for (const ByteRange& r : ranges) {
      std::optional<State> next = step(from, r.low);
      if (!next) continue;
      const uint32_t to = id_of(*std::move(next));
      if (!out.empty() && out.back().to == to && out.back().high + 1 == r.low)
        out.back().high = r.high;
      else
        out.push_back({r.low, r.high, to});
    }
  }
  return Dfa::create(std::move(edges), std::move(accepting));
}

}  // namespace narwhal::grammar
