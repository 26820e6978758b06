// A grammar over bytes and control tokens, as a graph of nodes: what may follow what.
//
//   GrammarBuilder b;
//   const NodeId list = b.list({.rest = b.literal("a"), .separator = b.literal(","), .min = 1});
//   NW_ASSIGN(auto grammar, b.finish(b.seq({b.literal("["), list, b.literal("]")}), 64));
//
// Nesting is bounded: a list or object inside `max_depth` others is not offered. Every node knows
// how deep it must go at least, so a document that has been begun can always be finished.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grammar/dfa.h"
#include "grammar/string_body.h"
#include "narwhal/status.h"

namespace narwhal {

namespace grammar {

using NodeId = uint32_t;
inline constexpr NodeId kNoNode = ~0u;

// What consumes bytes, or one control token.
struct Terminal {
  enum Kind : uint8_t { kLiteral, kDfa, kString, kControl };
  Kind kind = kLiteral;
  StringForm form = StringForm::kJson;
  int32_t control = -1;
  std::string literal = {};  // not empty
  Dfa dfa = {};
  StringBounds bounds = {};
};

// Items with separators between them.
struct List {
  std::vector<NodeId> prefix = {};  // the first items
  NodeId rest = kNoNode;            // every item after them; none: no more
  NodeId separator = kNoNode;
  uint64_t min = 0, max = ~uint64_t{0};
};

// Members in a fixed order, some of them optional, then any number of others.
struct Members {
  struct Member {
    NodeId node;  // name and value
    bool is_required;
  };
  std::vector<Member> members = {};
  NodeId rest = kNoNode;
  NodeId separator = kNoNode;
  uint64_t min = 0, max = ~uint64_t{0};
};

struct Node {
  enum Kind : uint8_t { kTerminal, kSequence, kChoice, kList, kMembers };
  static constexpr uint32_t kImpossible = 1 << 20;

  Kind kind = kChoice;
  uint32_t index = 0;                 // of the terminal, List or Members
  std::vector<NodeId> children = {};  // kSequence, kChoice
  uint32_t height = kImpossible;      // lists and objects nested in it at the least
};

}  // namespace grammar

// Immutable; any thread.
class Grammar {
 public:
  const grammar::Node& node(grammar::NodeId id) const { return nodes_[id]; }
  const grammar::Terminal& terminal(uint32_t i) const { return terminals_[i]; }
  const grammar::List& list(uint32_t i) const { return lists_[i]; }
  const grammar::Members& members(uint32_t i) const { return members_[i]; }
  grammar::NodeId root() const { return root_; }
  uint32_t max_depth() const { return max_depth_; }
  size_t n_nodes() const { return nodes_.size(); }

 private:
  friend class GrammarBuilder;
  std::vector<grammar::Node> nodes_;
  std::vector<grammar::Terminal> terminals_;
  std::vector<grammar::List> lists_;
  std::vector<grammar::Members> members_;
  grammar::NodeId root_ = 0;
  uint32_t max_depth_ = 64;
};

class GrammarBuilder {
 public:
  using NodeId = grammar::NodeId;

  NodeId literal(std::string text);  // equal texts give one node; empty is nothing()
  NodeId dfa(grammar::Dfa dfa);
  NodeId string(grammar::StringForm form, grammar::StringBounds bounds);
  NodeId control(int32_t token);
  NodeId nothing() { return seq({}); }
  NodeId seq(std::vector<NodeId> children);
  NodeId choice(std::vector<NodeId> children);  // of none: impossible
  NodeId list(grammar::List list);
  NodeId members(grammar::Members members);

  // A node to refer to before it is known; define() makes it a choice of `children`.
  NodeId reserve() { return choice({}); }
  void define(NodeId id, std::vector<NodeId> children);

  size_t n_nodes() const { return g_.nodes_.size(); }
  // kUsage when nothing at all matches, or only what is nested deeper than max_depth.
  Result<std::shared_ptr<const Grammar>> finish(NodeId root, uint32_t max_depth);

 private:
  NodeId add(grammar::Node node);
  NodeId add_terminal(grammar::Terminal terminal);
  uint32_t height_of(const grammar::Node& node) const;

  Grammar g_;
  std::map<std::string, NodeId> literals_;
};

}  // namespace narwhal
