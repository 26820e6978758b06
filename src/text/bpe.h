// Byte-pair merging of one piece: join the adjacent pair of lowest rank, leftmost first, until no
// adjacent pair is in the table.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace narwhal::text {

// (left id, right id) -> rank and id of the joined token. Read-only use is thread-safe.
class MergeTable {
 public:
  static constexpr int32_t kNoRank = INT32_MAX;
  struct Merge {
    int32_t rank = kNoRank;
    int32_t id = -1;
  };

  explicit MergeTable(size_t n_merges = 0);  // room for n_merges
  // False when the pair is there already.
  bool add(int32_t left, int32_t right, Merge merge);
  // rank == kNoRank when the pair does not merge.
  Merge find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static constexpr uint64_t kEmpty = UINT64_MAX;
  size_t slot_of(uint64_t key) const;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  int shift_;
};

// Merges pieces one after another, keeping its memory. One per thread.
class BpeMerger {
 public:
  // byte_ids[b] is the id of the one-byte token b. Both outlive the merger.
  BpeMerger(const MergeTable& table, const std::array<int32_t, 256>& byte_ids)
      : table_(table), byte_ids_(byte_ids) {}

  // Appends the ids of `piece` (less than 4 GiB). O(n log n) on any bytes.
  void merge(std::string_view piece, std::vector<int32_t>& ids);

  // Pairs taken from the queue so far: at most 3 for each byte.
  int64_t n_steps() const { return n_steps_; }

 private:
  struct Symbol {
    int32_t id;
    uint32_t previous, next;  // positions; kNone at the ends
    MergeTable::Merge with_next;
  };
  static constexpr uint32_t kNone = UINT32_MAX;
  void offer(uint32_t at);

  const MergeTable& table_;
  const std::array<int32_t, 256>& byte_ids_;
  std::vector<Symbol> symbols_;
  std::vector<uint64_t> queue_;  // heap of rank << 32 | position, smallest first
  int64_t n_steps_ = 0;
};

}  // namespace narwhal::text
