#include "session/kv_cache.h"

#include <fmt/format.h>

#include "base/check.h"

namespace narwhal {

Result<std::unique_ptr<KvCache>> KvCache::create(const KvLayout& layout, Backend& backend,
                                                 int n_slots, int64_t n_pages, int max_pages) {
  std::unique_ptr<KvCache> cache(new KvCache(layout, backend));
  cache->n_pages_ = n_pages;
  cache->max_pages_ = max_pages;
  cache->slot_pages_.resize(n_slots);
  for (int i = n_slots; i-- > 0;) cache->free_slots_.push_back(i);
  for (int64_t i = n_pages; i-- > 0;) cache->free_pages_.push_back(static_cast<int32_t>(i));
  NW_ASSIGN(cache->pages_, backend.allocate(n_pages * layout.page_bytes));
  NW_ASSIGN(cache->frontiers_, backend.allocate(n_slots * layout.frontier_bytes));
  NW_ASSIGN(cache->table_, backend.allocate(int64_t{n_slots} * max_pages * 4));
  return cache;
}

KvCache::~KvCache() {
  const auto n_slots = static_cast<int64_t>(slot_pages_.size());
  backend_.release(pages_, n_pages_ * layout_.page_bytes);
  backend_.release(frontiers_, n_slots * layout_.frontier_bytes);
  backend_.release(table_, n_slots * max_pages_ * 4);
}

Result<int> KvCache::acquire() {
  if (free_slots_.empty())
    return no_memory(fmt::format("all {} sessions are in use; close one", slot_pages_.size()));
  const int slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

void KvCache::release(int slot) {
  NW_CHECK(resize(slot, 0).ok(), "slot {}", slot);
  free_slots_.push_back(slot);
}

Status KvCache::resize(int slot, int64_t n_tokens) {
  auto& pages = slot_pages_[slot];
  const auto want = static_cast<size_t>(KvLayout::n_pages(n_tokens));
  NW_CHECK(want <= static_cast<size_t>(max_pages_), "{} pages of at most {}", want, max_pages_);
  if (want == pages.size()) return ok_status();
  if (want > pages.size() + free_pages_.size())
    return no_memory(
        fmt::format("the KV cache is full: {} pages of {} tokens are free, {} needed; close a "
                    "session or lower --ctx",
                    free_pages_.size(), kPageTokens, want - pages.size()));
  for (; pages.size() < want; free_pages_.pop_back()) pages.push_back(free_pages_.back());
  for (; pages.size() > want; pages.pop_back()) free_pages_.push_back(pages.back());
  upload_table(slot);
  return ok_status();
}

void KvCache::upload_table(int slot) {
  const auto& pages = slot_pages_[slot];
  backend_.copy_in(table_ + int64_t{slot} * max_pages_ * 4, pages.data(),
                   static_cast<int64_t>(pages.size()) * 4);
}

KvMemory KvCache::memory() const {
  return {pages_, frontiers_, reinterpret_cast<const int32_t*>(table_), max_pages_};
}

}  // namespace narwhal
