// What `narwhal cache` asks of a store: all fingerprints of the directory.
#include <fmt/format.h>
#include <unistd.h>

#include "kvstore/kv_store_impl.h"

namespace narwhal {

std::vector<KvEntry> KvStore::entries() {
  Impl& s = *impl_;
  const std::lock_guard guard(s.read_mutex);
  const std::vector<FrontierRow> rows = s.read_index.frontiers();
  KvForest forest(
      s.read_index.blocks(), rows, [](uint64_t) { return 1.0; }, s.now());
  std::vector<KvEntry> entries;
  if (!s.read_index.take_fault().ok()) return entries;
  for (size_t i = 0; i < rows.size(); i++) {
    const FrontierRow& f = forest.frontier(i);
    entries.push_back({.id = f.id,
                       .fingerprint = f.fingerprint,
                       .kind = f.kind,
                       .n_tokens = f.n_tokens,
                       .n_blocks = forest.chain_length(i),
                       .bytes = forest.chain_bytes(i),
                       .own_bytes = forest.own_bytes(i),
                       .hits = f.hits,
                       .created_at = f.created,
                       .used_at = f.used});
  }
  return entries;
}

Result<KvEntryDetail> KvStore::detail(const KvId& id) {
  KvEntryDetail detail;
  for (const KvEntry& e : entries()) {
    if (e.id == id) detail.entry = e;
  }
  if (detail.entry.id != id) {
    return usage(fmt::format("no entry {} in {}", id.hex(), impl_->dir.path()));
  }
  const int fd = open_kv_file(impl_->dir.path_of(id, false));
  if (fd < 0) return bad_input(fmt::format("entry {} is gone", id.hex()));
  auto header = read_header(fd);
  ::close(fd);
  NW_TRY(header.status().within("entry " + id.hex()));
  NW_ASSIGN(auto chain, impl_->read_chain(header->parent,
                                          chain_root(header->fingerprint, header->block_tokens)));
  detail.conversation = header->conversation;
  detail.blocks = std::move(chain.blocks);
  detail.tokens = std::move(chain.tokens);
  detail.tokens.insert(detail.tokens.end(), header->tokens.begin(), header->tokens.end());
  return detail;
}

Result<KvCheck> KvStore::verify(const std::function<void(uint64_t, uint64_t)>& progress) {
  Impl& s = *impl_;
  flush();
  KvCheck check;
  const std::vector<KvDir::File> files = s.dir.list();
  uint64_t total = 0;
  for (const auto& file : files) total += file.bytes;
  for (const auto& file : files) {
    const std::string path = s.dir.path_of(file.id, file.is_block);
    const int fd = open_kv_file(path);
    if (fd < 0) continue;  // evicted meanwhile
    const auto header = read_header(fd);
    Status status = header.status();
    if (header.ok()) {
      status = header->id == file.id ? check_payload(fd, *header)
                                     : bad_input("is another file under this name");
    }
    ::close(fd);
    check.n_files++;
    check.n_bytes += file.bytes;
    if (progress) progress(check.n_bytes, total);
    if (status.ok()) continue;
    check.faults.push_back(
        fmt::format("{}: {}", path.substr(path.rfind('/') + 1), status.message()));
    if (!s.read_only()) s.repair(file.id, file.is_block, true);
  }
  return check;
}

Result<uint64_t> KvStore::collect_garbage() {
  Impl& s = *impl_;
  if (s.read_only()) return failed(s.dir.path() + ": cannot be written");
  flush();
  const std::lock_guard guard(s.write_mutex);
  const KvDir::Lock lock(s.dir, true);
  s.dir.remove_stale_temporaries();
  const uint64_t before = s.used_bytes_locked();
  NW_TRY(s.reconcile_locked(s.write_index));
  KvForest forest(
      s.write_index.blocks(), s.write_index.frontiers(), [](uint64_t) { return 1.0; }, s.now());
  s.remove_locked({}, forest.take_orphans(kOrphanGraceSeconds), forest);
  const uint64_t used = s.used_bytes_locked();
  if (used > s.options.budget_bytes) s.evict_locked(used - s.options.budget_bytes, {});
  NW_TRY(s.write_index.compact());
  const uint64_t after = s.used_bytes_locked();
  return before > after ? before - after : 0;
}

Result<uint64_t> KvStore::remove(const KvId& id) {
  Impl& s = *impl_;
  if (s.read_only()) return failed(s.dir.path() + ": cannot be written");
  flush();
  const std::lock_guard guard(s.write_mutex);
  const KvDir::Lock lock(s.dir, true);
  KvForest forest(
      s.write_index.blocks(), s.write_index.frontiers(), [](uint64_t) { return 1.0; }, s.now());
  NW_TRY(s.write_index.take_fault());
  for (size_t i = 0; i < forest.size(); i++) {
    if (forest.frontier(i).id != id) continue;
    const int error = s.dir.remove_unpinned_frontier(id);
    if (error == -EBUSY) return failed(fmt::format("{} is in use", id.hex()));
    const uint64_t n = forest.frontier(i).bytes;
    const std::vector<KvId> blocks = forest.remove(i);
    return n + s.remove_locked(std::span(&id, 1), blocks, forest);
  }
  return usage(fmt::format("no entry {} in {}", id.hex(), s.dir.path()));
}

}  // namespace narwhal
