// KvCache: the memory of all live sequences. Compressed rows live in pages handed out from one
// pool, the frontier of a sequence in a slot (model/kv_layout.h). Pages are counted: sequences with
// a common prefix share them until one writes.
//
// Not thread-safe: the engine serialises steps and changes of the tables.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "model/kv_layout.h"
#include "narwhal/status.h"

namespace narwhal {

class KvCache {
 public:
  // Room for `n_slots` sequences and `n_pages` pages in all; a sequence may have at most
  // `max_pages`.
  static Result<std::unique_ptr<KvCache>> create(const KvLayout& layout, Backend& backend,
                                                 int n_slots, int64_t n_pages, int max_pages);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  // A slot for a new sequence; kNoMemory when all are taken.
  Result<int> acquire();
  void release(int slot);

  // Makes the pages of tokens [begin, end) present and this slot's own: new ones are added, shared
  // ones that the range touches are copied. kNoMemory changes nothing.
  Status prepare(int slot, int64_t begin, int64_t end);
  // Drops pages past those of the first n_tokens tokens.
  void truncate(int slot, int64_t n_tokens);
  // Replaces the pages of `to` by those of the first n_tokens tokens of `from`, shared.
  void share(int from, int to, int64_t n_tokens);

  KvMemory memory() const;
  int64_t n_free_pages() const { return static_cast<int64_t>(free_pages_.size()); }
  // Bytes of the pages and slots that have ever been handed out.
  int64_t used_bytes() const;

 private:
  KvCache(const KvLayout& layout, Backend& backend) : layout_(layout), backend_(backend) {}
  int32_t take_page();
  void drop_page(int32_t page);
  void upload_table(int slot);

  const KvLayout& layout_;
  Backend& backend_;
  int64_t n_pages_ = 0;
  int max_pages_ = 0;
  std::byte *pages_ = nullptr, *frontiers_ = nullptr, *table_ = nullptr;
  size_t least_free_pages_ = 0, least_free_slots_ = 0;
  std::vector<int> free_slots_;
  std::vector<int32_t> free_pages_;
  std::vector<int> n_owners_;  // [page]
  std::vector<std::vector<int32_t>> slot_pages_;
};

}  // namespace narwhal
