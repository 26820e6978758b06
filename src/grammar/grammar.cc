#include "grammar/grammar.h"

#include <algorithm>

#include "base/check.h"

namespace narwhal {

using grammar::kNoNode;
using grammar::List;
using grammar::Members;
using grammar::Node;
using grammar::NodeId;
using grammar::Terminal;

NodeId GrammarBuilder::add(Node node) {
  g_.nodes_.push_back(std::move(node));
  return static_cast<NodeId>(g_.nodes_.size() - 1);
}

NodeId GrammarBuilder::add_terminal(Terminal terminal) {
  g_.terminals_.push_back(std::move(terminal));
  return add({.kind = Node::kTerminal, .index = static_cast<uint32_t>(g_.terminals_.size() - 1)});
}

NodeId GrammarBuilder::literal(std::string text) {
  if (text.empty()) return nothing();
  const auto [it, is_new] = literals_.emplace(text, kNoNode);
  if (is_new) it->second = add_terminal({.kind = Terminal::kLiteral, .literal = std::move(text)});
  return it->second;
}

NodeId GrammarBuilder::dfa(grammar::Dfa dfa) {
  if (dfa.is_empty()) return choice({});
  return add_terminal({.kind = Terminal::kDfa, .dfa = std::move(dfa)});
}

NodeId GrammarBuilder::string(grammar::StringForm form, grammar::StringBounds bounds) {
  if (bounds.min > bounds.max) return choice({});
  return add_terminal({.kind = Terminal::kString, .form = form, .bounds = bounds});
}

NodeId GrammarBuilder::control(int32_t token) {
  return add_terminal({.kind = Terminal::kControl, .control = token});
}

NodeId GrammarBuilder::seq(std::vector<NodeId> children) {
  return add({.kind = Node::kSequence, .children = std::move(children)});
}

NodeId GrammarBuilder::choice(std::vector<NodeId> children) {
  return add({.kind = Node::kChoice, .children = std::move(children)});
}

NodeId GrammarBuilder::list(List list) {
  NW_CHECK(list.separator != kNoNode, "list without a separator");
  if (list.rest == kNoNode) list.max = std::min<uint64_t>(list.max, list.prefix.size());
  g_.lists_.push_back(std::move(list));
  return add({.kind = Node::kList, .index = static_cast<uint32_t>(g_.lists_.size() - 1)});
}

NodeId GrammarBuilder::members(Members members) {
  NW_CHECK(members.separator != kNoNode, "members without a separator");
  g_.members_.push_back(std::move(members));
  return add({.kind = Node::kMembers, .index = static_cast<uint32_t>(g_.members_.size() - 1)});
}

void GrammarBuilder::define(NodeId id, std::vector<NodeId> children) {
  NW_CHECK(g_.nodes_[id].kind == Node::kChoice, "node {} is no choice", id);
  g_.nodes_[id].children = std::move(children);
}

uint32_t GrammarBuilder::height_of(const Node& node) const {
  const auto height = [&](NodeId id) { return g_.nodes_[id].height; };
  uint32_t h = 0;
  switch (node.kind) {
    case Node::kTerminal:
      return 0;
    case Node::kSequence:
      for (const NodeId c : node.children) h = std::max(h, height(c));
      return h;
    case Node::kChoice:
      h = Node::kImpossible;
      for (const NodeId c : node.children) h = std::min(h, height(c));
      return h;
    case Node::kList: {
      const List& list = g_.lists_[node.index];
      if (list.min > list.max) return Node::kImpossible;
      const size_t n = std::min<uint64_t>(list.min, list.prefix.size());
      for (size_t i = 0; i < n; i++) h = std::max(h, height(list.prefix[i]));
      if (list.min > n) h = std::max(h, height(list.rest));
      break;
    }
    case Node::kMembers: {
      const Members& m = g_.members_[node.index];
      std::vector<uint32_t> optional;
      size_t n_required = 0;
      for (const auto& member : m.members) {
        if (!member.is_required) {
          optional.push_back(height(member.node));
          continue;
        }
        n_required++;
        h = std::max(h, height(member.node));
      }
      if (n_required > m.max || m.min > m.max) return Node::kImpossible;
      if (m.min <= n_required) break;
      // The cheapest way to enough members.
      std::sort(optional.begin(), optional.end());
      const size_t missing = m.min - n_required;
      uint32_t most =
          missing <= optional.size() ? optional[missing - 1] : uint32_t{Node::kImpossible};
      if (m.rest != kNoNode) most = std::min(most, height(m.rest));
      h = std::max(h, most);
      break;
    }
  }
  return h >= Node::kImpossible ? uint32_t{Node::kImpossible} : h + 1;
}

Result<std::shared_ptr<const Grammar>> GrammarBuilder::finish(NodeId root, uint32_t max_depth) {
  // Heights only fall from kImpossible, so this ends; what stays has no finite document.
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = g_.nodes_.size(); i-- > 0;) {
      const uint32_t h = height_of(g_.nodes_[i]);
      changed |= h != g_.nodes_[i].height;
      g_.nodes_[i].height = h;
    }
  }
  const uint32_t height = g_.nodes_[root].height;
  if (height >= Node::kImpossible)
    return usage("nothing can match; loosen what contradicts itself");
  if (height > max_depth)
    return usage(fmt::format("every match is nested {} levels deep, at most {} are allowed", height,
                             max_depth));
  g_.root_ = root;
  g_.max_depth_ = max_depth;
  return std::make_shared<const Grammar>(std::move(g_));
}

}  // namespace narwhal
