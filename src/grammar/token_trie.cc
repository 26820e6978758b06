#include "grammar/token_trie.h"

#include <algorithm>

#include "base/check.h"
#include "grammar/token_sets.h"

namespace narwhal {

TokenTrie::TokenTrie() : string_tokens_(std::make_unique<grammar::StringTokens>()) {}
TokenTrie::~TokenTrie() = default;

std::shared_ptr<const TokenTrie> TokenTrie::create(std::span<const std::string_view> tokens,
                                                   std::span<const int32_t> end_ids) {
  std::shared_ptr<TokenTrie> trie(new TokenTrie);
  std::vector<int32_t> sorted;
  for (const std::string_view t : tokens) {
    trie->offsets_.push_back(static_cast<uint32_t>(trie->blob_.size()));
    trie->blob_ += t;
    if (!t.empty()) sorted.push_back(static_cast<int32_t>(trie->offsets_.size()) - 1);
    trie->max_bytes_ = std::max(trie->max_bytes_, t.size());
  }
  trie->offsets_.push_back(static_cast<uint32_t>(trie->blob_.size()));
  for (const int32_t id : end_ids) {
    NW_CHECK(id >= 0 && id < trie->n_tokens() && trie->bytes(id).empty(),
             "end id {} is no control of a vocabulary of {}", id, trie->n_tokens());
    trie->end_ids_.push_back(id);
  }
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](int32_t a, int32_t b) { return trie->bytes(a) < trie->bytes(b); });
  trie->build(sorted);
  return trie;
}

void TokenTrie::build(std::span<const int32_t> sorted) {
  next_same_.assign(static_cast<size_t>(n_tokens()), -1);
  nodes_.push_back({0, -1, 0});
  std::vector<uint32_t> path = {0};  // nodes from the root to the token before
  const auto leave = [&](size_t depth) {
    while (path.size() > depth + 1) {
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
      path.pop_back();
    }
  };
  std::string_view before;
  for (const int32_t id : sorted) {
    const std::string_view text = bytes(id);
    const auto differ = std::mismatch(text.begin(), text.end(), before.begin(), before.end());
    leave(static_cast<size_t>(differ.first - text.begin()));
    for (auto c = differ.first; c != text.end(); ++c) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({0, -1, static_cast<uint8_t>(*c)});
    }
    int32_t& token = nodes_[path.back()].token;
    next_same_[static_cast<size_t>(id)] = token;
    token = id;
    before = text;
  }
  leave(0);
  nodes_[0].end = static_cast<uint32_t>(nodes_.size());
}

std::string_view TokenTrie::bytes(int32_t id) const {
  const auto i = static_cast<size_t>(id);
  return std::string_view(blob_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
}

bool TokenTrie::is_end(int32_t id) const {
  return std::find(end_ids_.begin(), end_ids_.end(), id) != end_ids_.end();
}

}  // namespace narwhal
