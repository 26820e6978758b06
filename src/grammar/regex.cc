#include "grammar/regex.h"

#include <algorithm>

namespace narwhal::grammar {
namespace {

constexpr size_t kMaxNfaStates = 60000;
constexpr size_t kMaxDfaStates = 20000;
constexpr size_t kMaxWork = 16'000'000;  // edges followed; some tenths of a second

// Nondeterministic, over the bytes of the written string without its closer.
struct Nfa {
  struct Edge {
    uint8_t low, high;
    uint32_t to;
  };
  struct State {
    std::vector<Edge> edges;
    std::vector<uint32_t> empty;  // free moves
    bool is_boundary = true;      // between characters
  };
  std::vector<State> states;
  uint32_t start = 0, accept = 0;

  uint32_t add(bool is_boundary = true) {
    states.push_back({{}, {}, is_boundary});
    return static_cast<uint32_t>(states.size() - 1);
  }
};

std::string utf8(uint32_t c) {
  const auto tail = [c](int shift) { return static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xC0 | c >> 6), tail(0)};
  if (c < 0x10000) return {static_cast<char>(0xE0 | c >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xF0 | c >> 18), tail(12), tail(6), tail(0)};
}

// The escape that JSON's canonical spelling needs, or empty.
std::string escape_of(uint32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return c < 0x20 ? fmt::format("\\u{:04x}", c) : "";
  }
}

class NfaBuilder {
 public:
  NfaBuilder(StringForm form, Nfa& nfa) : form_(form), nfa_(nfa) {}

  // False when it grows too large.
  bool build(const Regex& regex) {
    nfa_.start = nfa_.add();
    nfa_.accept = nfa_.add();
    return add(regex, nfa_.start, nfa_.accept);
  }

 private:
  bool add(const Regex& r, uint32_t from, uint32_t to) {
    if (nfa_.states.size() > kMaxNfaStates) return false;
    switch (r.kind) {
      case Regex::kClass:
        for (const CodeRange& range : r.ranges) add_range(range, from, to);
        return true;
      case Regex::kSequence:
        for (const Regex& c : r.children) {
          const uint32_t next = nfa_.add();
          if (!add(c, from, next)) return false;
          from = next;
        }
        nfa_.states[from].empty.push_back(to);
        return true;
      case Regex::kChoice:
        return std::all_of(r.children.begin(), r.children.end(),
                           [&](const Regex& c) { return add(c, from, to); });
      case Regex::kRepeat:
        return add_repeat(r, from, to);
    }
    return false;
  }

  bool add_repeat(const Regex& r, uint32_t from, uint32_t to) {
    for (int i = 0; i < r.min; i++) {
      const uint32_t next = nfa_.add();
      if (!add(r.children[0], from, next)) return false;
      from = next;
    }
    if (r.max == Regex::kNoLimit) {
      const uint32_t loop = nfa_.add();
      nfa_.states[from].empty.push_back(loop);
      nfa_.states[loop].empty.push_back(to);
      return add(r.children[0], loop, loop);
    }
    for (int i = r.min; i < r.max; i++) {
      const uint32_t next = nfa_.add();
      nfa_.states[from].empty.push_back(to);
      if (!add(r.children[0], from, next)) return false;
      from = next;
    }
    nfa_.states[from].empty.push_back(to);
    return true;
  }

  void add_range(CodeRange range, uint32_t from, uint32_t to) {
    if (form_ == StringForm::kJson) {
      for (uint32_t c = range.low; c <= std::min<uint32_t>(range.high, 0x1F); c++)
        add_bytes(escape_of(c), from, to);
      range.low = std::max<uint32_t>(range.low, 0x20);
      for (const uint32_t c : {uint32_t{'"'}, uint32_t{'\\'}}) {
        if (c < range.low || c > range.high) continue;
        add_bytes(escape_of(c), from, to);
        if (c > range.low) add_utf8({range.low, c - 1}, from, to);
        range.low = c + 1;
      }
    }
    // Surrogates are no characters.
    if (range.low < 0xD800) add_utf8({range.low, std::min<uint32_t>(range.high, 0xD7FF)}, from, to);
    range.low = std::max<uint32_t>(range.low, 0xE000);
    add_utf8(range, from, to);
  }

  void add_bytes(std::string_view bytes, uint32_t from, uint32_t to) {
    for (size_t i = 0; i < bytes.size(); i++) {
      const auto b = static_cast<uint8_t>(bytes[i]);
      const uint32_t next = i + 1 == bytes.size() ? to : nfa_.add(false);
      nfa_.states[from].edges.push_back({b, b, next});
      from = next;
    }
  }

  // Splits until both ends differ in whole trailing bytes only, so each byte has its own range.
  void add_utf8(CodeRange r, uint32_t from, uint32_t to) {
    if (r.low > r.high) return;
    for (const uint32_t last : {0x7Fu, 0x7FFu, 0xFFFFu})
      if (r.low <= last && r.high > last) return split(r, last, from, to);
    for (int i = 1; r.low > 0x7F && i < 4; i++) {
      const uint32_t m = (1u << (6 * i)) - 1;
      if ((r.low & ~m) == (r.high & ~m)) break;
      if ((r.low & m) != 0) return split(r, r.low | m, from, to);
      if ((r.high & m) != m) return split(r, (r.high & ~m) - 1, from, to);
    }
    const std::string low = utf8(r.low), high = utf8(r.high);
    for (size_t i = 0; i < low.size(); i++) {
      const uint32_t next = i + 1 == low.size() ? to : nfa_.add(false);
      nfa_.states[from].edges.push_back(
          {static_cast<uint8_t>(low[i]), static_cast<uint8_t>(high[i]), next});
      from = next;
    }
  }
  void split(CodeRange r, uint32_t last, uint32_t from, uint32_t to) {
    add_utf8({r.low, last}, from, to);
    add_utf8({last + 1, r.high}, from, to);
  }

  StringForm form_;
  Nfa& nfa_;
};

// Runs several automata side by side and counts characters. A state is a flat list of numbers:
// closer progress, count, then the states of each automaton in turn, each list ended by kStop.
class Product {
 public:
  using State = std::vector<uint32_t>;

  Product(std::vector<Nfa> nfas, StringBounds bounds, std::string_view closer)
      : nfas_(std::move(nfas)), bounds_(bounds), closer_(closer) {
    for (const Nfa& nfa : nfas_) marks_.emplace_back(nfa.states.size(), 0);
  }

  State start() {
    State s = {0, 0};
    for (size_t k = 0; k < nfas_.size(); k++) {
      State set = {nfas_[k].start};
      close(k, set);
      append(s, set);
    }
    return s;
  }

  std::optional<State> step(const State& from, uint8_t byte) {
    const Sets sets = split(from);
    const uint32_t count = from[1];
    uint32_t closing = 0;
    if (from[0] < closer_.size() && static_cast<uint8_t>(closer_[from[0]]) == byte &&
        (from[0] > 0 || is_whole(sets, count)))
      closing = from[0] + 1;
    else if (closer_.size() > 1 && static_cast<uint8_t>(closer_[0]) == byte &&
             is_whole(sets, count))
      closing = 1;

    const bool at_boundary = !sets.empty() && is_boundary(sets);
    State next = {closing, at_boundary ? counted(count) : count};
    const bool alive = !sets.empty() && !(at_boundary && int64_t{count} + 1 > bounds_.max) &&
                       step_sets(sets, byte, next);
    if (!alive) next = {closing, 0};
    if (!alive && closing == 0) return std::nullopt;
    return next;
  }

  bool accepts(const State& s) const { return s[0] == closer_.size(); }
  bool exhausted() const { return work_ > kMaxWork; }

 private:
  static constexpr uint32_t kStop = ~0u;
  using Sets = std::vector<std::span<const uint32_t>>;  // empty: no longer text, only the closer

  uint32_t counted(uint32_t count) const {
    const int64_t last = bounds_.max == StringBounds::kNoLimit ? bounds_.min : bounds_.max;
    return static_cast<uint32_t>(std::min<int64_t>(int64_t{count} + 1, last));
  }

  static void append(State& out, const State& set) {
    out.insert(out.end(), set.begin(), set.end());
    out.push_back(kStop);
  }
  static Sets split(const State& s) {
    Sets sets;
    for (size_t i = 2, begin = 2; i < s.size(); i++) {
      if (s[i] != kStop) continue;
      sets.push_back(std::span(s).subspan(begin, i - begin));
      begin = i + 1;
    }
    return sets;
  }

  bool is_boundary(const Sets& sets) const { return nfas_[0].states[sets[0][0]].is_boundary; }
  // Whether the string may end here.
  bool is_whole(const Sets& sets, uint32_t count) const {
    if (sets.empty() || count < bounds_.min) return false;
    for (size_t k = 0; k < sets.size(); k++)
      if (!std::binary_search(sets[k].begin(), sets[k].end(), nfas_[k].accept)) return false;
    return true;
  }

  bool step_sets(const Sets& sets, uint8_t byte, State& next) {
    for (size_t k = 0; k < sets.size(); k++) {
      State to;
      for (const uint32_t s : sets[k]) {
        const auto& edges = nfas_[k].states[s].edges;
        work_ += 1 + edges.size();
        for (const Nfa::Edge& e : edges)
          if (byte >= e.low && byte <= e.high) to.push_back(e.to);
      }
      if (to.empty() || exhausted()) return false;
      close(k, to);
      append(next, to);
    }
    return true;
  }

  // Adds what free moves reach; sorted, each once.
  void close(size_t k, State& set) {
    auto& mark = marks_[k];
    round_++;
    size_t n = 0;
    for (const uint32_t s : set)
      if (mark[s] != round_) mark[s] = round_, set[n++] = s;
    set.resize(n);
    for (size_t i = 0; i < set.size(); i++)
      for (const uint32_t to : nfas_[k].states[set[i]].empty)
        if (mark[to] != round_) mark[to] = round_, set.push_back(to);
    work_ += set.size();
    std::sort(set.begin(), set.end());
  }

  std::vector<Nfa> nfas_;
  StringBounds bounds_;
  std::string_view closer_;
  std::vector<std::vector<uint32_t>> marks_;  // [nfa][state]: the round that saw it
  uint32_t round_ = 0;
  size_t work_ = 0;
};

// The bytes between two neighbouring cuts act alike in all automata.
std::vector<ByteRange> alike(std::span<const Nfa> nfas, std::string_view closer) {
  std::vector<bool> cut(257, false);  // a range begins here
  cut[0] = cut[256] = true;
  const auto mark = [&](uint8_t low, uint8_t high) { cut[low] = cut[size_t{high} + 1] = true; };
  for (const Nfa& nfa : nfas)
    for (const auto& s : nfa.states)
      for (const auto& e : s.edges) mark(e.low, e.high);
  for (const char c : closer) mark(static_cast<uint8_t>(c), static_cast<uint8_t>(c));
  std::vector<ByteRange> out;
  for (size_t low = 0; low < 256;) {
    size_t end = low + 1;
    while (!cut[end]) end++;
    out.push_back({static_cast<uint8_t>(low), static_cast<uint8_t>(end - 1)});
    low = end;
  }
  return out;
}

}  // namespace

Result<Dfa> string_dfa(std::span<const Regex> patterns, StringBounds bounds, StringForm form) {
  std::vector<Nfa> nfas(patterns.size());
  for (size_t k = 0; k < nfas.size(); k++)
    if (!NfaBuilder(form, nfas[k]).build(patterns[k]))
      return usage(fmt::format("the pattern needs more than {} states; shorten its repetitions",
                               kMaxNfaStates));
  const std::string_view closer = form == StringForm::kJson ? "\"" : "</";
  const auto ranges = alike(nfas, closer);
  Product product(std::move(nfas), bounds, closer);
  auto dfa = explore_dfa(
      product.start(), ranges,
      [&](const Product::State& s, uint8_t b) { return product.step(s, b); },
      [&](const Product::State& s) { return product.accepts(s); }, kMaxDfaStates);
  if (product.exhausted()) return usage("the pattern takes too long to compile; simplify it");
  return dfa;
}

std::string canonical_escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto b = static_cast<uint8_t>(c);
    const std::string e = b < 0x80 ? escape_of(b) : "";
    if (e.empty())
      out += c;
    else
      out += e;
  }
  return out;
}

}  // namespace narwhal::grammar
