#include "kvstore/kv_forest.h"

#include <algorithm>
#include <limits>

namespace narwhal {

KvForest::KvForest(const std::vector<BlockRow>& blocks, const std::vector<FrontierRow>& frontiers,
                   const std::function<double(uint64_t)>& tokens_per_second, int64_t now)
    : now_(now) {
  for (const BlockRow& b : blocks) blocks_[b.id].row = b;
  for (auto& [id, block] : blocks_) {
    if (const auto it = blocks_.find(block.row.parent); it != blocks_.end()) {
      it->second.n_children++;
    }
  }
  for (const FrontierRow& f : frontiers) {
    const size_t i = frontiers_.size();
    if (Block* block = parent_of(f.parent)) {
      block->n_children++;
      block->frontiers.push_back(i);
    } else {
      first_frontiers_[f.parent].push_back(i);
    }
    frontiers_.push_back({f, tokens_per_second(f.fingerprint)});
  }
}

const KvForest::Block* KvForest::parent_of(const KvId& id) const {
  const auto it = blocks_.find(id);
  return it == blocks_.end() || it->second.gone ? nullptr : &it->second;
}

void KvForest::release(Block* block, std::vector<KvId>& freed) {
  while (block && block->n_children == 0) {
    block->gone = true;
    freed.push_back(block->row.id);
    block = parent_of(block->row.parent);
    if (block) block->n_children--;
  }
}

std::vector<KvId> KvForest::take_orphans(int64_t grace, const KvId& spared) {
  std::vector<KvId> freed;
  Block* kept = parent_of(spared);
  if (kept) kept->n_children++;
  for (auto& [id, block] : blocks_) {
    if (block.gone || block.n_children > 0) continue;
    const int64_t age = now_ - block.row.created;
    if (age < grace && age > -grace) continue;  // a clock that jumped back makes nothing young
    release(&block, freed);
  }
  if (kept) kept->n_children--;
  return freed;
}

std::vector<KvId> KvForest::remove(size_t i) {
  std::vector<KvId> freed;
  frontiers_[i].gone = true;
  if (Block* block = parent_of(frontiers_[i].row.parent)) {
    std::erase(block->frontiers, i);
    block->n_children--;
    release(block, freed);
  } else {
    std::erase(first_frontiers_[frontiers_[i].row.parent], i);
  }
  return freed;
}

uint64_t KvForest::block_bytes(const KvId& id) const {
  const auto it = blocks_.find(id);
  return it == blocks_.end() ? 0 : it->second.row.bytes;
}

uint64_t KvForest::chain_bytes(size_t i) const {
  uint64_t n = frontiers_[i].row.bytes;
  for (const Block* b = parent_of(frontiers_[i].row.parent); b; b = parent_of(b->row.parent)) {
    n += b->row.bytes;
  }
  return n;
}

uint64_t KvForest::own_bytes(size_t i) const {
  uint64_t n = frontiers_[i].row.bytes;
  for (const Block* b = parent_of(frontiers_[i].row.parent); b && b->n_children == 1;
       b = parent_of(b->row.parent)) {
    n += b->row.bytes;
  }
  return n;
}

int64_t KvForest::chain_length(size_t i) const {
  int64_t n = 0;
  for (const Block* b = parent_of(frontiers_[i].row.parent); b; b = parent_of(b->row.parent)) n++;
  return n;
}

// Frontiers that hang off the same block have the same whole blocks, not necessarily the same tail;
// taking the nearest as the next best errs by less than a block.
int64_t KvForest::previous_position(size_t i) const {
  const FrontierRow& f = frontiers_[i].row;
  const auto best_of = [&](const std::vector<size_t>& list) {
    int64_t best = -1;
    for (size_t k : list) {
      const FrontierRow& other = frontiers_[k].row;
      if (k != i && !frontiers_[k].gone && other.n_tokens < f.n_tokens) {
        best = std::max(best, other.n_tokens);
      }
    }
    return best;
  };
  const Block* block = parent_of(f.parent);
  KvId above = f.parent;
  for (; block; block = parent_of(above)) {
    if (const int64_t best = best_of(block->frontiers); best >= 0) return best;
    above = block->row.parent;
  }
  const auto it = first_frontiers_.find(above);
  return it == first_frontiers_.end() ? 0 : std::max<int64_t>(0, best_of(it->second));
}

double KvForest::value(size_t i) const {
  const Frontier& f = frontiers_[i];
  const double seconds =
      static_cast<double>(f.row.n_tokens - previous_position(i)) / f.tokens_per_second;
  const double uses = 1 + cooled(f.row.heat, f.row.used, now_);
  // The end of a system text is what the next conversation begins with.
  const double boost = f.row.kind == FrontierKind::kAnchor ? 2 : 1;
  return seconds * uses * boost / static_cast<double>(std::max<uint64_t>(1, own_bytes(i)));
}

std::optional<size_t> KvForest::take_cheapest() {
  if (!ranked_) {
    for (size_t i = 0; i < frontiers_.size(); i++) {
      candidates_.push({value(i), frontiers_[i].row.used, i});
    }
    ranked_ = true;
  }
  while (!candidates_.empty()) {
    const Candidate top = candidates_.top();
    candidates_.pop();
    if (frontiers_[top.index].gone) continue;
    const double v = value(top.index);
    if (v <= top.value || candidates_.empty() || v <= candidates_.top().value) return top.index;
    candidates_.push({v, top.used, top.index});
  }
  return std::nullopt;
}

}  // namespace narwhal
