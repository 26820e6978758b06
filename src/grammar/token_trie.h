// The vocabulary as a tree of bytes, walked to find which tokens an automaton can take.
//
//   auto trie = TokenTrie::create(bytes_by_id, {eos});     // once per vocabulary
//
// 129,280 tokens: about 0.1 s and 10 MiB.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace narwhal {

namespace grammar {
class StringTokens;
}

// A bit per token id, bit i of word i / 64.
using TokenMask = std::vector<uint64_t>;

inline bool test_bit(std::span<const uint64_t> mask, int32_t id) {
  return (mask[static_cast<size_t>(id) / 64] >> (id % 64)) & 1;
}
inline void set_bit(std::span<uint64_t> mask, int32_t id) {
  mask[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
}

// Immutable after create(); any thread.
class TokenTrie {
 public:
  // tokens[id]: the token's bytes, empty for controls (which text can never yield). end_ids: the
  // controls that end a document, such as the end of sentence. The views need not live on.
  static std::shared_ptr<const TokenTrie> create(std::span<const std::string_view> tokens,
                                                 std::span<const int32_t> end_ids);
  ~TokenTrie();

  // Nodes in preorder: the first child of node i, if any, is i + 1; `end` is one past its subtree.
  // Node 0 is the root.
  struct Node {
    uint32_t end;
    int32_t token;  // -1: none; more tokens of the same bytes by next_same()
    uint8_t byte;
  };
  std::span<const Node> nodes() const { return nodes_; }
  int32_t next_same(int32_t token) const { return next_same_[static_cast<size_t>(token)]; }

  int32_t n_tokens() const { return static_cast<int32_t>(offsets_.size()) - 1; }
  size_t n_words() const { return (static_cast<size_t>(n_tokens()) + 63) / 64; }
  // Empty for a control. 0 <= id < n_tokens().
  std::string_view bytes(int32_t id) const;
  size_t max_token_bytes() const { return max_bytes_; }
  std::span<const int32_t> end_ids() const { return end_ids_; }
  bool is_end(int32_t id) const;

  // What all constraints over this vocabulary share: see constraint.cc.
  grammar::StringTokens& string_tokens() const { return *string_tokens_; }

 private:
  TokenTrie();
  void build(std::span<const int32_t> sorted);

  std::string blob_;
  std::vector<uint32_t> offsets_;  // [n_tokens + 1]
  std::vector<Node> nodes_;
  std::vector<int32_t> next_same_;
  std::vector<int32_t> end_ids_;
  size_t max_bytes_ = 0;
  std::unique_ptr<grammar::StringTokens> string_tokens_;
};

}  // namespace narwhal
