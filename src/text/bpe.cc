#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/check.h"

namespace narwhal::text {
namespace {

uint64_t key_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

MergeTable::MergeTable(size_t n_merges) {
  const size_t n = std::bit_ceil(std::max<size_t>(2 * n_merges, 16));
  slots_.resize(n);
  shift_ = 64 - std::countr_zero(n);
}

// The slot that holds `key`, or the empty one where it would go.
size_t MergeTable::slot_of(uint64_t key) const {
  size_t i = (key * 0x9E3779B97F4A7C15u) >> shift_;
  while (slots_[i].key != key && slots_[i].key != kEmpty) i = (i + 1) & (slots_.size() - 1);
  return i;
}

bool MergeTable::add(int32_t left, int32_t right, Merge merge) {
  Slot& slot = slots_[slot_of(key_of(left, right))];
  if (slot.key != kEmpty) return false;
  slot = {key_of(left, right), merge};
  return true;
}

MergeTable::Merge MergeTable::find(int32_t left, int32_t right) const {
  return slots_[slot_of(key_of(left, right))].merge;
}

// Looks the pair that begins at `at` up and queues it if it merges.
void BpeMerger::offer(uint32_t at) {
  Symbol& s = symbols_[at];
  s.with_next = s.next == kNone ? MergeTable::Merge{} : table_.find(s.id, symbols_[s.next].id);
  if (s.with_next.rank != MergeTable::kNoRank)
    queue_.push_back(static_cast<uint64_t>(s.with_next.rank) << 32 | at);
}

void BpeMerger::merge(std::string_view piece, std::vector<int32_t>& ids) {
  NW_CHECK(piece.size() < kNone, "piece of {} bytes", piece.size());
  const auto n = static_cast<uint32_t>(piece.size());
  symbols_.resize(n);
  queue_.clear();
  for (uint32_t i = 0; i < n; i++)
    symbols_[i] = {byte_ids_[static_cast<uint8_t>(piece[i])], i - 1, i + 1 < n ? i + 1 : kNone, {}};
  for (uint32_t i = 0; i < n; i++) offer(i);
  const auto later = std::greater<uint64_t>();
  std::make_heap(queue_.begin(), queue_.end(), later);

  const auto offer_and_sift = [&](uint32_t at) {
    const size_t before = queue_.size();
    offer(at);
    if (queue_.size() > before) std::push_heap(queue_.begin(), queue_.end(), later);
  };
  while (!queue_.empty()) {
    std::pop_heap(queue_.begin(), queue_.end(), later);
    const uint64_t entry = queue_.back();
    queue_.pop_back();
    n_steps_++;
    const auto at = static_cast<uint32_t>(entry);
    Symbol& s = symbols_[at];
    if (s.with_next.rank != entry >> 32) continue;  // one of the two was joined elsewhere meanwhile
    Symbol& right = symbols_[s.next];
    s.id = s.with_next.id;
    s.next = right.next;
    right.with_next.rank = MergeTable::kNoRank;
    if (s.next != kNone) symbols_[s.next].previous = at;
    offer_and_sift(at);
    if (s.previous != kNone) offer_and_sift(s.previous);
  }
  for (uint32_t i = 0; i < n; i = symbols_[i].next) {
    ids.push_back(symbols_[i].id);
    if (symbols_[i].next == kNone) break;
  }
}

}  // namespace narwhal::text
