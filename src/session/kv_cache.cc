#include "session/kv_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace narwhal {

Result<std::unique_ptr<KvCache>> KvCache::create(const KvLayout& layout, Backend& backend,
                                                 int n_slots, int64_t n_pages, int max_pages) {
  std::unique_ptr<KvCache> cache(new KvCache(layout, backend));
  cache->n_pages_ = n_pages;
  cache->max_pages_ = max_pages;
  cache->slot_pages_.resize(n_slots);
  cache->n_owners_.resize(n_pages);
  for (int i = n_slots; i-- > 0;) cache->free_slots_.push_back(i);
  for (int64_t i = n_pages; i-- > 0;) cache->free_pages_.push_back(static_cast<int32_t>(i));
  cache->least_free_slots_ = cache->free_slots_.size();
  cache->least_free_pages_ = cache->free_pages_.size();
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
  least_free_slots_ = std::min(least_free_slots_, free_slots_.size());
  return slot;
}

void KvCache::release(int slot) {
  truncate(slot, 0);
  free_slots_.push_back(slot);
}

int32_t KvCache::take_page() {
  const int32_t page = free_pages_.back();
  free_pages_.pop_back();
  least_free_pages_ = std::min(least_free_pages_, free_pages_.size());
  n_owners_[page] = 1;
  return page;
}

void KvCache::drop_page(int32_t page) {
  if (--n_owners_[page] == 0) free_pages_.push_back(page);
}

Status KvCache::prepare(int slot, int64_t begin, int64_t end) {
  auto& pages = slot_pages_[slot];
  const auto first = static_cast<size_t>(begin / kPageTokens),
             want = static_cast<size_t>(KvLayout::n_pages(end));
  NW_CHECK(want <= static_cast<size_t>(max_pages_) && first <= pages.size(),
           "pages {} to {} of {}, limit {}", first, want, pages.size(), max_pages_);
  size_t n_new = want > pages.size() ? want - pages.size() : 0;
  for (size_t i = first; i < std::min(want, pages.size()); i++) n_new += n_owners_[pages[i]] > 1;
  if (n_new == 0) return ok_status();
  if (n_new > free_pages_.size())
    return no_memory(
        fmt::format("the KV cache is full: {} pages of {} tokens are free, {} needed; close a "
                    "session or lower --ctx",
                    free_pages_.size(), kPageTokens, n_new));
  for (size_t i = first; i < std::min(want, pages.size()); i++) {
    if (n_owners_[pages[i]] == 1) continue;
    const int32_t copy = take_page();
    backend_.copy_device(pages_ + copy * layout_.page_bytes, pages_ + pages[i] * layout_.page_bytes,
                         layout_.page_bytes);
    drop_page(std::exchange(pages[i], copy));
  }
  while (pages.size() < want) pages.push_back(take_page());
  upload_table(slot);
  return ok_status();
}

void KvCache::truncate(int slot, int64_t n_tokens) {
  auto& pages = slot_pages_[slot];
  const auto keep = static_cast<size_t>(KvLayout::n_pages(n_tokens));
  for (; pages.size() > keep; pages.pop_back()) drop_page(pages.back());
}

void KvCache::share(int from, int to, int64_t n_tokens) {
  const auto& source = slot_pages_[from];
  const auto n = static_cast<size_t>(KvLayout::n_pages(n_tokens));
  NW_CHECK(n <= source.size() && from != to, "{} pages of {}", n, source.size());
  truncate(to, 0);
  slot_pages_[to].assign(source.begin(), source.begin() + static_cast<std::ptrdiff_t>(n));
  for (const int32_t page : slot_pages_[to]) n_owners_[page]++;
  upload_table(to);
}

void KvCache::upload_table(int slot) {
  const auto& pages = slot_pages_[slot];
  backend_.copy_in(table_ + int64_t{slot} * max_pages_ * 4, pages.data(),
                   static_cast<int64_t>(pages.size()) * 4);
}

// What is given back is handed out again first, so no more than the most at once was ever touched.
int64_t KvCache::used_bytes() const {
  const auto slots = static_cast<int64_t>(slot_pages_.size() - least_free_slots_);
  return (n_pages_ - static_cast<int64_t>(least_free_pages_)) * layout_.page_bytes +
         slots * layout_.frontier_bytes;
}

KvMemory KvCache::memory() const {
  return {pages_, frontiers_, reinterpret_cast<const int32_t*>(table_), max_pages_};
}

}  // namespace narwhal
