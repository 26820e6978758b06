// Keeping index and files together: at open, after damage, and when space is needed.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "kvstore/kv_store_impl.h"

namespace narwhal {

Status KvStore::Impl::open_index_locked() {
  constexpr int kBusyMs = 10000;
  // Made beforehand: SQLite gives its log the mode of the file.
  if (const int fd = files.open_new(dir.index_path()); fd >= 0) ::close(fd);
  for (bool fresh : {false, true}) {
    if (fresh) {
      log(fmt::format("{}: the index is damaged; made again from the files", dir.path()));
      write_index.close();
      dir.remove_index();
      if (const int fd = files.open_new(dir.index_path()); fd >= 0) ::close(fd);
    }
    Status status = write_index.open(dir.index_path(), kBusyMs);
    if (status.ok()) status = reconcile_locked(write_index);
    if (status.ok()) status = read_index.open(dir.index_path(), kBusyMs);
    if (status.ok()) return ok_status();
    if (fresh || !write_index.damaged()) return status;
  }
  return ok_status();
}

// Makes the index say what the files say: rows without a file (or with one of another size) go, and
// what hangs off them; files without a row are taken up where their chain is whole.
Status KvStore::Impl::reconcile_locked(KvIndex& index) {
  std::unordered_map<KvId, FileRow> rows;
  for (const FileRow& row : index.files()) rows.emplace(row.id, row);
  NW_TRY(index.take_fault());
  std::vector<KvDir::File> strangers;
  for (const KvDir::File& file : dir.list()) {
    const auto it = rows.find(file.id);
    const bool fits = it != rows.end() && it->second.is_block == file.is_block;
    if (!fits) {
      strangers.push_back(file);
    } else if (it->second.bytes == file.bytes) {
      rows.erase(it);
    }
  }
  for (const auto& [id, row] : rows) {
    if (row.is_block) {
      remove_subtree_locked(id);
    } else {
      remove_frontier_locked(id);
    }
  }
  adopt_locked(index, strangers);
  return index.take_fault();
}

void KvStore::Impl::adopt_locked(KvIndex& index, const std::vector<KvDir::File>& found) {
  std::vector<KvHeader> headers;
  const auto reject = [&](const KvDir::File& file) {
    if (!read_only()) dir.remove_file(file.id, file.is_block);
  };
  for (const KvDir::File& file : found) {
    const int fd = open_kv_file(dir.path_of(file.id, file.is_block));
    if (fd < 0) continue;
    auto header = read_header(fd);
    ::close(fd);
    if (header.ok() && header->id == file.id &&
        (header->kind == KvFileKind::kBlock) == file.is_block) {
      headers.push_back(*std::move(header));
    } else {
      reject(file);
    }
  }
  // Parents first.
  std::sort(headers.begin(), headers.end(), [](const KvHeader& a, const KvHeader& b) {
    return std::pair(a.kind, a.end()) < std::pair(b.kind, b.end());
  });
  for (const KvHeader& h : headers) {
    const bool is_block = h.kind == KvFileKind::kBlock;
    const auto added = is_block ? index.add_block(h, now()) : index.add_frontier(h, now());
    if (!added.ok()) return;
    if (!*added) reject({h.id, is_block, 0});
  }
}

void KvStore::Impl::check_index(const Status& status, bool damaged) {
  if (status.ok() || rebuilding) return;
  if (damaged || write_index.damaged()) {
    rebuilding = true;
    enqueue(0, [this] { rebuild_index(); });
    return;
  }
  const auto t = std::chrono::steady_clock::now();
  if (t - index_fault_logged < std::chrono::minutes(1)) return;
  index_fault_logged = t;
  log(fmt::format("{}: {}", dir.path(), status.message()));
}

void KvStore::Impl::check_read_index_locked() {
  const Status fault = read_index.take_fault();
  if (fault.ok()) return;
  enqueue(0, [this, fault, damaged = read_index.damaged()] {
    const std::lock_guard guard(write_mutex);
    check_index(fault, damaged);
  });
}

void KvStore::Impl::rebuild_index() {
  const std::lock_guard write_guard(write_mutex);
  const std::lock_guard read_guard(read_mutex);
  const KvDir::Lock lock(dir, true);
  rebuilding = false;
  write_index.close();
  read_index.close();
  if (const Status status = open_index_locked(); !status.ok()) {
    log(fmt::format("{}: {}", dir.path(), status.message()));
  }
  forget_known();
}

// Without SQLite's log, which make_room() allows for: it comes and goes by itself, and to evict for
// its sake would be a waste. Where many processes are at work it may have to be told.
uint64_t KvStore::Impl::used_bytes_locked() {
  if (dir.index_log_bytes() > kMaxLogBytes / 2) write_index.take_log_back();
  const uint64_t n = write_index.total_bytes() + dir.index_bytes();
  check_index(write_index.take_fault());
  return n;
}

uint64_t KvStore::Impl::evict(uint64_t wanted, const KvId& spared) {
  const std::lock_guard guard(write_mutex);
  const KvDir::Lock lock(dir, true);
  return evict_locked(wanted, spared);
}

// First what no frontier needs and is old, then frontiers by value, last what no frontier needs
// yet. Never what the last find returned or a Hit holds; nor, where it can be helped, the chain
// that leads to `spared`.
uint64_t KvStore::Impl::evict_locked(uint64_t wanted, const KvId& spared) {
  KvForest forest(
      write_index.blocks(), write_index.frontiers(),
      [this](uint64_t fingerprint) { return write_index.speed(fingerprint); }, now());
  if (const Status fault = write_index.take_fault(); !fault.ok()) {
    check_index(fault);
    return 0;
  }
  KvId asked_for;
  {
    const std::lock_guard guard(queue_mutex);
    asked_for = last_found;
  }
  uint64_t freed = remove_locked({}, forest.take_orphans(kOrphanGraceSeconds, spared), forest);
  while (freed < wanted) {
    const auto i = forest.take_cheapest();
    if (!i) break;
    const KvId id = forest.frontier(*i).id;
    if (id == asked_for || dir.remove_unpinned_frontier(id) == -EBUSY) continue;
    freed += forest.frontier(*i).bytes;
    const std::vector<KvId> blocks = forest.remove(*i);
    std::vector<KvId> removable;
    bool on_path = false;  // blocks come leaf first: from `spared` on, all lead to it
    for (const KvId& block : blocks) {
      on_path |= block == spared;
      if (!on_path) removable.push_back(block);
    }
    freed += remove_locked(std::span(&id, 1), removable, forest);
  }
  if (freed < wanted) freed += remove_locked({}, forest.take_orphans(0, spared), forest);
  return freed;
}

// Rows, then files; frontier files are the caller's. Bytes of the blocks.
uint64_t KvStore::Impl::remove_locked(std::span<const KvId> frontiers, std::span<const KvId> blocks,
                                      const KvForest& forest) {
  if (frontiers.empty() && blocks.empty()) return 0;
  const Status status = write_index.remove(frontiers, blocks);
  check_index(status);
  if (!status.ok()) return 0;
  uint64_t n = 0;
  for (const KvId& id : blocks) {
    dir.remove_file(id, true);
    n += forest.block_bytes(id);
  }
  const std::lock_guard guard(queue_mutex);
  for (const KvId& id : blocks) known.erase(id);
  counters.files_evicted += frontiers.size() + blocks.size();
  return n;
}

void KvStore::Impl::repair(const KvId& id, bool is_block, bool payload) {
  const std::lock_guard guard(write_mutex);
  const KvDir::Lock lock(dir, true);
  repair_locked(id, is_block, payload);
}

// Looks again, and removes the file with all that builds on it when it is gone or damaged. Whether
// it was.
bool KvStore::Impl::repair_locked(const KvId& id, bool is_block, bool payload) {
  const int fd = open_kv_file(dir.path_of(id, is_block));
  bool good = false;
  if (fd >= 0) {
    const auto header = read_header(fd);
    good = header.ok() && header->id == id && (!payload || check_payload(fd, *header).ok());
    ::close(fd);
  }
  if (good) return false;
  // Gone from both: evicted since the lookup, which is no damage.
  const bool known_file = is_block ? write_index.has_block(id) : write_index.has_frontier(id);
  if (fd < 0 && !known_file) return true;
  {
    const std::lock_guard guard(queue_mutex);
    counters.files_damaged++;
  }
  if (is_block) {
    remove_subtree_locked(id);
  } else {
    remove_frontier_locked(id);
  }
  return true;
}

void KvStore::Impl::remove_subtree_locked(const KvId& block) {
  std::vector<KvId> blocks, frontiers;
  for (const FileRow& row : write_index.subtree(block)) {
    (row.is_block ? blocks : frontiers).push_back(row.id);
  }
  check_index(write_index.take_fault());
  check_index(write_index.remove(frontiers, blocks));
  for (const KvId& id : frontiers) dir.remove_file(id, false);
  for (const KvId& id : blocks) dir.remove_file(id, true);
  const std::lock_guard guard(queue_mutex);
  for (const KvId& id : blocks) known.erase(id);
}

void KvStore::Impl::remove_frontier_locked(const KvId& id) {
  check_index(write_index.remove(std::span(&id, 1), {}));
  dir.remove_file(id, false);
}

}  // namespace narwhal
