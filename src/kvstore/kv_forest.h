// KvForest: blocks and frontiers as the tree they are, and which of them to give up first.
//
// A frontier is worth the prefill it saves: the seconds to compute from the next best frontier that
// would remain up to it, times how often it is used (halved every six hours), per byte that
// removing it would free. A block lives as long as a frontier needs it, so what many share goes
// last. Blocks that no frontier needs go first, but not while they are young: the prefill that
// writes them may not have come to its frontier yet.
//
//   KvForest forest(blocks, frontiers, speed_of, now);
//   while (freed < wanted) {
//     const auto f = forest.take_cheapest();
//     if (!f) break;
//     if (not in use) freed += bytes of forest.frontier(*f) and of the blocks forest.remove(*f);
//   }
//
// Plain data in memory; one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <span>
#include <unordered_map>
#include <vector>

#include "kvstore/kv_index.h"

namespace narwhal {

inline constexpr int64_t kOrphanGraceSeconds = 15 * 60;

class KvForest {
 public:
  KvForest(const std::vector<BlockRow>& blocks, const std::vector<FrontierRow>& frontiers,
           const std::function<double(uint64_t fingerprint)>& tokens_per_second, int64_t now);

  // Takes out the blocks that no frontier needs, leaves first: of chains whose last block is older
  // than `grace` seconds, and not those that lead to `spared`.
  std::vector<KvId> take_orphans(int64_t grace, const KvId& spared = {});

  // Index of the frontier of the least value among those not returned before, or nothing.
  std::optional<size_t> take_cheapest();
  const FrontierRow& frontier(size_t i) const { return frontiers_[i].row; }
  // Takes the frontier out, with the blocks that nothing else hangs off, leaves first. Young blocks
  // go, too.
  std::vector<KvId> remove(size_t i);

  uint64_t block_bytes(const KvId& id) const;
  // Of the frontier and all blocks before it; and what removing it would free.
  uint64_t chain_bytes(size_t i) const;
  uint64_t own_bytes(size_t i) const;
  int64_t chain_length(size_t i) const;
  double value(size_t i) const;
  size_t size() const { return frontiers_.size(); }

 private:
  struct Block {
    BlockRow row;
    int n_children = 0;  // blocks and frontiers
    std::vector<size_t> frontiers;
    bool gone = false;
  };
  struct Frontier {
    FrontierRow row;
    double tokens_per_second = 1;
    bool gone = false;
  };
  struct Candidate {
    double value;
    int64_t used;
    size_t index;
    bool operator>(const Candidate& o) const {
      return value != o.value ? value > o.value : used > o.used;
    }
  };

  const Block* parent_of(const KvId& id) const;
  Block* parent_of(const KvId& id) {
    return const_cast<Block*>(static_cast<const KvForest*>(this)->parent_of(id));
  }
  int64_t previous_position(size_t i) const;
  void release(Block* block, std::vector<KvId>& freed);

  std::unordered_map<KvId, Block> blocks_;
  std::unordered_map<KvId, std::vector<size_t>> first_frontiers_;  // before any whole block
  std::vector<Frontier> frontiers_;
  // Values as they were when pushed; a removal changes those of its neighbours.
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates_;
  bool ranked_ = false;
  int64_t now_;
};

}  // namespace narwhal
