#include "grammar/dfa.h"

#include <algorithm>
#include <array>

namespace narwhal::grammar {
namespace {

// Which states reach an accepting one.
std::vector<bool> find_useful(const std::vector<std::vector<Dfa::Edge>>& edges,
                              const std::vector<bool>& accepts) {
  std::vector<std::vector<uint32_t>> sources(edges.size());
  for (uint32_t s = 0; s < edges.size(); s++)
    for (const Dfa::Edge& e : edges[s]) sources[e.to].push_back(s);
  std::vector<bool> useful = accepts;
  std::vector<uint32_t> todo;
  for (uint32_t s = 0; s < edges.size(); s++)
    if (accepts[s]) todo.push_back(s);
  while (!todo.empty()) {
    const uint32_t s = todo.back();
    todo.pop_back();
    for (const uint32_t from : sources[s]) {
      if (useful[from]) continue;
      useful[from] = true;
      todo.push_back(from);
    }
  }
  return useful;
}

}  // namespace

std::span<const ByteRange> every_byte() {
  static const auto ranges = [] {
    std::array<ByteRange, 256> r{};
    for (size_t b = 0; b < r.size(); b++) r[b] = {static_cast<uint8_t>(b), static_cast<uint8_t>(b)};
    return r;
  }();
  return ranges;
}

Dfa Dfa::create(std::vector<std::vector<Edge>> edges, std::vector<bool> accepts) {
  Dfa d;
  const std::vector<bool> useful = find_useful(edges, accepts);
  if (useful.empty() || !useful[kStart]) return d;
  std::vector<uint32_t> renamed(edges.size(), kDead);
  uint32_t n = 0;
  for (uint32_t s = 0; s < edges.size(); s++)
    if (useful[s]) renamed[s] = n++;
  for (uint32_t s = 0; s < edges.size(); s++) {
    if (!useful[s]) continue;
    d.first_.push_back(static_cast<uint32_t>(d.edges_.size()));
    d.accepts_.push_back(accepts[s]);
    for (const Edge& e : edges[s])
      if (useful[e.to]) d.edges_.push_back({e.low, e.high, renamed[e.to]});
  }
  d.first_.push_back(static_cast<uint32_t>(d.edges_.size()));
  if (n > kMaxDense) return d;
  d.dense_.assign(size_t{n} * 256, kNoState);
  for (uint32_t s = 0; s < n; s++)
    for (uint32_t i = d.first_[s]; i < d.first_[s + 1]; i++)
      for (int b = d.edges_[i].low; b <= d.edges_[i].high; b++)
        d.dense_[s * 256 + b] = static_cast<uint16_t>(d.edges_[i].to);
  return d;
}

bool Dfa::matches(std::string_view text) const {
  if (is_empty()) return false;
  uint32_t s = kStart;
  for (const char c : text) {
    s = step(s, static_cast<uint8_t>(c));
    if (s == kDead) return false;
  }
  return accepts(s);
}

Result<Dfa> literals_dfa(std::span<const std::string> texts, size_t max_states) {
  std::vector<std::string_view> sorted(texts.begin(), texts.end());
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::vector<Dfa::Edge>> edges(1);
  std::vector<bool> accepts(1, false);
  // Sorted texts share their prefixes with the one before, so only the last edge can match.
  for (const std::string_view text : sorted) {
    uint32_t s = Dfa::kStart;
    for (const char c : text) {
      const auto byte = static_cast<uint8_t>(c);
      if (edges[s].empty() || edges[s].back().high != byte) {
        if (edges.size() >= max_states)
          return usage(fmt::format("needs an automaton of more than {} states", max_states));
        edges[s].push_back({byte, byte, static_cast<uint32_t>(edges.size())});
        edges.emplace_back();
        accepts.push_back(false);
      }
      s = edges[s].back().to;
    }
    accepts[s] = true;
  }
  return Dfa::create(std::move(edges), std::move(accepts));
}

}  // namespace narwhal::grammar
