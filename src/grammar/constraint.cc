#include "grammar/constraint.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "grammar/token_sets.h"

namespace narwhal {

using namespace grammar;  // whose inside this class is made of

// Masks by the hashes of all threads, in order.
struct Constraint::Shared {
  static constexpr size_t kMaxMasks = 512;  // at 16 KiB, 8 MiB
  std::mutex mutex;
  std::map<std::vector<uint64_t>, std::shared_ptr<const TokenMask>> masks;
  DfaTokens dfa_tokens;
};

namespace {

// Adds the tokens that a thread can take: those that end inside its terminal, and those that leave
// it and go on in what follows.
class MaskBuilder {
 public:
  MaskBuilder(const Grammar& grammar, const TokenTrie& trie, DfaTokens& dfa_tokens, TokenMask& out)
      : g_(grammar), trie_(trie), dfa_tokens_(dfa_tokens), out_(out) {}

  void add(const Thread& thread) {
    if (thread.terminal == Thread::kEnd) {
      for (const int32_t id : trie_.end_ids()) set_bit(out_, id);
      return;
    }
    const Terminal& t = g_.terminal(thread.terminal);
    switch (t.kind) {
      case Terminal::kControl:
        if (t.control < trie_.n_tokens()) set_bit(out_, t.control);
        break;
      case Terminal::kLiteral:
        walk(0, thread);
        break;
      case Terminal::kDfa:
        add_set(*dfa_tokens_.find(trie_, t, thread.terminal, thread.at), thread.rest);
        break;
      case Terminal::kString:
        add_set(*trie_.string_tokens().find(trie_, t, thread.at), thread.rest);
        break;
    }
  }

 private:
  void add_set(const TokenSet& set, const Rest& rest) {
    set.add_to(out_);
    for (const uint32_t node : set.exits) leave(node, rest);
  }

  // The tokens below `node` that continue with what follows a terminal.
  void leave(uint32_t node, const Rest& rest) {
    if (!rest || !seen_.insert(mix(node, rest->hash)).second) return;
    auto it = after_.find(rest.get());
    if (it == after_.end())
      it = after_.emplace(rest.get(), std::make_shared<Threads>(threads_after(g_, rest))).first;
    const std::shared_ptr<const Threads> threads = it->second;
    for (const Thread& thread : *threads)
      if (thread.terminal != Thread::kEnd) walk(node, thread);
  }

  void walk(uint32_t node, const Thread& thread) {
    const Terminal& t = g_.terminal(thread.terminal);
    walk_trie(
        trie_, node, thread.at, [&](Position& at, uint8_t b) { return advance(t, at, b); },
        [&](int32_t id) { set_bit(out_, id); }, [&](uint32_t exit) { leave(exit, thread.rest); });
  }

  const Grammar& g_;
  const TokenTrie& trie_;
  DfaTokens& dfa_tokens_;
  TokenMask& out_;
  std::unordered_set<uint64_t> seen_;
  // By address: the frames are held by the constraint's threads and by the threads kept here.
  std::unordered_map<const Frame*, std::shared_ptr<const Threads>> after_;
};

// Equal for threads that allow the same tokens: of a string's length only what a token can reach.
uint64_t mask_key(const Grammar& grammar, const TokenTrie& trie, const Thread& thread) {
  if (thread.terminal == Thread::kEnd) return thread.hash();
  const Terminal& t = grammar.terminal(thread.terminal);
  if (t.kind != Terminal::kString) return thread.hash();
  const StringBounds near = bounds_in_reach(trie, t, thread.at);
  const uint64_t count = mix(static_cast<uint64_t>(near.min), static_cast<uint64_t>(near.max));
  Thread alike = thread;
  alike.at.count = static_cast<int64_t>(count);
  return alike.hash();
}

}  // namespace

Constraint Constraint::create(std::shared_ptr<const Grammar> grammar,
                              std::shared_ptr<const TokenTrie> trie) {
  Constraint c;
  c.grammar_ = std::move(grammar);
  c.trie_ = std::move(trie);
  c.shared_ = std::make_shared<Shared>();
  c.reset();
  return c;
}

void Constraint::reset() {
  threads_ = threads_at_start(*grammar_);
  mask_ = nullptr;
  ended_ = false;
}

bool Constraint::accept_bytes(std::string_view bytes) {
  Threads next = threads_;
  for (const char c : bytes) {
    next = step_byte(*grammar_, next, static_cast<uint8_t>(c));
    if (next.empty()) return false;
  }
  if (ended_ && !bytes.empty()) return false;
  threads_ = std::move(next);
  mask_ = nullptr;
  return true;
}

bool Constraint::accept(int32_t token) {
  if (ended_ || token < 0 || token >= trie_->n_tokens()) return false;
  const std::string_view bytes = trie_->bytes(token);
  if (!bytes.empty()) return accept_bytes(bytes);
  if (trie_->is_end(token)) {
    if (!can_end()) return false;
    threads_.clear();
    ended_ = true;
  } else {
    Threads next = step_control(*grammar_, threads_, token);
    if (next.empty()) return false;
    threads_ = std::move(next);
  }
  mask_ = nullptr;
  return true;
}

bool Constraint::can_end() const { return may_end(threads_); }

bool Constraint::must_end() const {
  return !threads_.empty() && std::all_of(threads_.begin(), threads_.end(), [](const Thread& t) {
    return t.terminal == Thread::kEnd;
  });
}

std::span<const uint64_t> Constraint::mask() {
  if (mask_) return *mask_;
  std::vector<uint64_t> key;
  key.reserve(threads_.size());
  for (const Thread& t : threads_) key.push_back(mask_key(*grammar_, *trie_, t));
  {
    const std::lock_guard lock(shared_->mutex);
    const auto it = shared_->masks.find(key);
    if (it != shared_->masks.end()) mask_ = it->second;
  }
  if (mask_) return *mask_;
  mask_ = compute_mask();
  const std::lock_guard lock(shared_->mutex);
  if (shared_->masks.size() >= Shared::kMaxMasks) shared_->masks.clear();
  shared_->masks.emplace(std::move(key), mask_);
  return *mask_;
}

std::shared_ptr<const TokenMask> Constraint::compute_mask() const {
  auto mask = std::make_shared<TokenMask>(trie_->n_words(), 0);
  MaskBuilder builder(*grammar_, *trie_, shared_->dfa_tokens, *mask);
  for (const Thread& thread : threads_) builder.add(thread);
  return mask;
}

Constraint::Forced Constraint::forced(size_t max_bytes) const {
  Forced out;
  Threads threads = threads_;
  while (out.text.size() < max_bytes && !may_end(threads)) {
    int only_byte = -1;
    bool has_choice = false;
    for (const Thread& thread : threads) {
      const Terminal& t = grammar_->terminal(thread.terminal);
      if (t.kind == Terminal::kControl) {
        has_choice |= only_byte >= 0 || (out.control >= 0 && out.control != t.control);
        out.control = t.control;
        continue;
      }
      for (int b = 0; b < 256 && !has_choice; b++) {
        Position at = thread.at;
        if (advance(t, at, static_cast<uint8_t>(b)) == kDead) continue;
        has_choice = (only_byte >= 0 && only_byte != b) || out.control >= 0;
        only_byte = b;
      }
      if (has_choice) break;
    }
    if (has_choice) out.control = -1;
    if (has_choice || out.control >= 0 || only_byte < 0) break;
    out.text += static_cast<char>(only_byte);
    threads = step_byte(*grammar_, threads, static_cast<uint8_t>(only_byte));
  }
  return out;
}

}  // namespace narwhal
