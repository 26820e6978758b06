#include "grammar/matcher.h"

#include <algorithm>
#include <unordered_set>

namespace narwhal::grammar {

Frame::Frame(NodeId node_, uint64_t a_, uint64_t b_, uint32_t depth_,
             std::shared_ptr<const Frame> parent_)
    : node(node_),
      a(a_),
      b(b_),
      depth(depth_),
      hash(mix(mix(mix(parent_ ? parent_->hash : 1, node_), a_), b_)),
      parent(std::move(parent_)) {}

uint64_t Thread::hash() const {
  const uint64_t place = mix(mix(2, terminal), at.state);
  return mix(mix(place, static_cast<uint64_t>(at.count)), rest ? rest->hash : 3);
}

namespace {

// A few hashes in a row, many in a table. Two things of one hash count as one, which is harmless.
class Seen {
 public:
  bool insert(uint64_t h) {
    if (table_.empty()) {
      if (std::find(few_.begin(), few_.end(), h) != few_.end()) return false;
      few_.push_back(h);
      if (few_.size() > 32) table_.insert(few_.begin(), few_.end());
      return true;
    }
    return table_.insert(h).second;
  }

 private:
  std::vector<uint64_t> few_;
  std::unordered_set<uint64_t> table_;
};

// Follows what consumes nothing: collects the threads that can take the next byte.
class Closure {
 public:
  Closure(const Grammar& grammar, Threads& out) : g_(grammar), out_(out) {}

  void add(Thread thread) {
    if (out_.size() < kMaxThreads && seen_.insert(thread.hash())) out_.push_back(std::move(thread));
  }

  void resume(const Rest& rest) {
    if (!rest) return add({Thread::kEnd, {}, nullptr});
    if (out_.size() >= kMaxThreads || !seen_.insert(rest->hash)) return;
    const Node& node = g_.node(rest->node);
    if (rest->a == kWholeNode)
      enter(rest->node, rest->parent);
    else if (node.kind == Node::kSequence)
      enter_sequence(rest->node, rest->a, rest->parent);
    else if (node.kind == Node::kList)
      resume_list(g_.list(node.index), *rest);
    else
      resume_members(g_.members(node.index), *rest);
  }

  void enter(NodeId id, const Rest& rest) {
    if (!fits(id, depth_of(rest)) || out_.size() >= kMaxThreads) return;
    const Node& node = g_.node(id);
    if (node.kind != Node::kTerminal && !seen_.insert(mix(mix(4, id), rest ? rest->hash : 5)))
      return;
    switch (node.kind) {
      case Node::kTerminal:
        enter_terminal(node.index, rest);
        break;
      case Node::kSequence:
        enter_sequence(id, 0, rest);
        break;
      case Node::kChoice:
        for (const NodeId c : node.children) enter(c, rest);
        break;
      case Node::kList:
        enter_list(id, rest);
        break;
      case Node::kMembers:
        resume(push(id, 0, 0, rest, 1));
        break;
    }
  }

 private:
  static constexpr uint64_t kWholeNode = ~uint64_t{0};  // as Frame::a: nothing of the node yet

  static uint32_t depth_of(const Rest& rest) { return rest ? rest->depth : 0; }
  bool fits(NodeId id, uint32_t depth) const {
    return depth + g_.node(id).height <= g_.max_depth();
  }
  static Rest push(NodeId id, uint64_t a, uint64_t b, const Rest& parent, uint32_t deeper) {
    return std::make_shared<const Frame>(id, a, b, depth_of(parent) + deeper, parent);
  }

  void enter_terminal(uint32_t index, const Rest& rest) {
    const Terminal& t = g_.terminal(index);
    add({index, {}, rest});
    if (t.kind == Terminal::kDfa && t.dfa.accepts(Dfa::kStart)) resume(rest);
  }

  void enter_sequence(NodeId id, uint64_t child, const Rest& parent) {
    const auto& children = g_.node(id).children;
    if (child == children.size()) return resume(parent);
    // The last child needs no way back to the sequence.
    const bool is_last = child + 1 == children.size();
    enter(children[child], is_last ? parent : push(id, child + 1, 0, parent, 0));
  }

  static NodeId item_at(const List& list, uint64_t i) {
    return i < list.prefix.size() ? list.prefix[i] : list.rest;
  }

  void enter_list(NodeId id, const Rest& rest) {
    const List& list = g_.list(g_.node(id).index);
    if (list.min == 0) resume(rest);
    if (list.max > 0) enter(item_at(list, 0), push(id, 1, 0, rest, 1));
  }

  void resume_list(const List& list, const Frame& f) {
    if (f.a >= list.min) resume(f.parent);
    if (f.a >= list.max) return;
    const NodeId item = item_at(list, f.a);
    if (!fits(item, f.depth)) return;
    const Rest after_item = push(f.node, f.a + 1, 0, f.parent, 1);
    enter(list.separator, push(item, kWholeNode, 0, after_item, 0));
  }

  // Whether member i may follow when n were taken: those that must still come have room, and
  // enough are left to reach the minimum.
  bool can_take(const Members& m, size_t i, uint64_t n, uint32_t depth) const {
    if (!fits(m.members[i].node, depth)) return false;
    uint64_t n_required = 0, n_left = 0;
    if (m.max != ~uint64_t{0})
      for (size_t j = i + 1; j < m.members.size(); j++) n_required += m.members[j].is_required;
    if (n + 1 + n_required > m.max) return false;
    if (n + 1 >= m.min || can_repeat(m, depth)) return true;
    for (size_t j = i + 1; j < m.members.size(); j++) n_left += fits(m.members[j].node, depth);
    return n + 1 + n_left >= m.min;
  }
  bool can_repeat(const Members& m, uint32_t depth) const {
    return m.rest != kNoNode && fits(m.rest, depth);
  }

  // The members that may come next; returns whether there is one. enter_them false: only asks.
  bool next_members(const Members& m, const Frame& f, bool enter_them) {
    size_t i = f.a / 2;
    bool any = false;
    for (; i < m.members.size(); i++) {
      if (can_take(m, i, f.b, f.depth)) {
        any = true;
        if (!enter_them) return true;
        enter(m.members[i].node, push(f.node, 2 * (i + 1), f.b + 1, f.parent, 1));
      }
      if (m.members[i].is_required) return any;
    }
    if (!can_repeat(m, f.depth) || f.b >= m.max) return any;
    if (enter_them) enter(m.rest, push(f.node, 2 * i, f.b + 1, f.parent, 1));
    return true;
  }

  void resume_members(const Members& m, const Frame& f) {
    const bool after_separator = f.a % 2 == 1;
    if (f.b == 0 || after_separator) next_members(m, f, true);
    if (after_separator) return;
    bool may_stop = f.b >= m.min;
    for (size_t i = f.a / 2; i < m.members.size() && may_stop; i++)
      may_stop = !m.members[i].is_required;
    if (may_stop) resume(f.parent);
    if (f.b > 0 && next_members(m, f, false))
      enter(m.separator, push(f.node, f.a + 1, f.b, f.parent, 1));
  }

  const Grammar& g_;
  Threads& out_;
  Seen seen_;
};

// Moves one thread by one byte; what follows its terminal goes to `closure`.
void step_thread(const Grammar& grammar, const Thread& thread, uint8_t byte, Closure& closure) {
  if (thread.terminal == Thread::kEnd) return;
  const Terminal& t = grammar.terminal(thread.terminal);
  Position at = thread.at;
  const int effect = advance(t, at, byte);
  if (effect & kGoesOn) closure.add({thread.terminal, at, thread.rest});
  if (effect & kMayEnd) closure.resume(thread.rest);
}

}  // namespace

int advance(const Terminal& t, Position& at, uint8_t byte) {
  switch (t.kind) {
    case Terminal::kLiteral:
      return advance_literal(t, at, byte);
    case Terminal::kDfa:
      return advance_dfa(t, at, byte);
    case Terminal::kString:
      return advance_string(t.form, t.bounds, at, byte);
    case Terminal::kControl:
      break;
  }
  return kDead;
}

Threads threads_at_start(const Grammar& grammar) {
  Threads out;
  Closure(grammar, out).enter(grammar.root(), nullptr);
  return out;
}

Threads threads_after(const Grammar& grammar, const Rest& rest) {
  Threads out;
  Closure(grammar, out).resume(rest);
  return out;
}

Threads step_byte(const Grammar& grammar, const Threads& threads, uint8_t byte) {
  Threads out;
  Closure closure(grammar, out);
  for (const Thread& thread : threads) step_thread(grammar, thread, byte, closure);
  return out;
}

Threads step_control(const Grammar& grammar, const Threads& threads, int32_t token) {
  Threads out;
  Closure closure(grammar, out);
  for (const Thread& thread : threads) {
    if (thread.terminal == Thread::kEnd) continue;
    const Terminal& t = grammar.terminal(thread.terminal);
    if (t.kind == Terminal::kControl && t.control == token) closure.resume(thread.rest);
  }
  return out;
}

bool may_end(const Threads& threads) {
  return std::any_of(threads.begin(), threads.end(),
                     [](const Thread& t) { return t.terminal == Thread::kEnd; });
}

}  // namespace narwhal::grammar
