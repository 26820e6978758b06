// How a file comes into the directory: written under another name, flushed, renamed, then indexed.
// A crash leaves a temporary file (removed at the next open) or a file without a row (taken up
// then); never a name or a row for bytes that are not there.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kvstore/kv_store_impl.h"

namespace narwhal {
namespace {

constexpr std::chrono::seconds kPause{60};

bool is_disk_full(int error) { return error == -ENOSPC || error == -EDQUOT || error == -EFBIG; }

}  // namespace

void KvStore::Impl::write_piece(Piece& piece) {
  if (is_paused()) return drop(piece, &KvStats::dropped_no_space);
  if (!is_worth_writing(piece)) return;
  if (!make_room(piece.header.file_bytes(), piece)) {
    return drop(piece, &KvStats::dropped_no_space);
  }
  const std::span<const std::byte> bytes = piece.bytes();
  piece.header.payload_checksum = checksum_of(std::span(&bytes, 1));
  std::string fault;
  int error = write_file(piece, fault);
  // Others may have filled the disk below our budget: give up some of ours, once.
  if (is_disk_full(error) && evict(2 * piece.header.file_bytes(), piece.header.parent) > 0) {
    error = write_file(piece, fault);
  }
  if (error != 0) return disk_fault(piece, error, fault);
  {
    const std::lock_guard guard(queue_mutex);
    queued_frontiers.erase(piece.header.id);
    counters.files_written++;
    counters.bytes_written += piece.header.file_bytes();
  }
  if (!piece.is_block()) drop_superseded(piece.header.conversation);
}

bool KvStore::Impl::is_worth_writing(const Piece& piece) {
  const KvHeader& h = piece.header;
  std::unique_lock guard(write_mutex);
  const bool stored =
      piece.is_block() ? write_index.has_block(h.id) : write_index.has_frontier(h.id);
  const bool has_parent = h.start == 0 || write_index.has_block(h.parent);
  const Status fault = write_index.take_fault();
  check_index(fault);
  if (stored && fault.ok()) {
    const std::lock_guard queue_guard(queue_mutex);
    queued_frontiers.erase(h.id);
    return false;
  }
  if (has_parent && fault.ok()) return true;
  // Dropped or evicted: what we believe to be stored is out of date.
  if (fault.ok()) forget_known();
  guard.unlock();
  drop(piece, &KvStats::dropped_failed);
  return false;
}

int KvStore::Impl::write_temporary(KvDir::Temporary& file, Piece& piece) {
  if (const int error = file.write(encode_header(piece.header))) return error;
  if (const int error = file.write(piece.bytes())) return error;
  return file.sync();
}

// 0, or -errno with what failed in `fault`.
int KvStore::Impl::write_file(Piece& piece, std::string& fault) {
  std::string path;
  int fd = 0;
  {
    const std::lock_guard guard(write_mutex);
    const KvDir::Lock lock(dir, false);
    fd = dir.create_temporary(path);
  }
  if (fd < 0) {
    fault = "cannot make a file";
    return fd;
  }
  KvDir::Temporary file(files, path, fd);
  if (const int error = write_temporary(file, piece)) {
    fault = "cannot write";
    return error;
  }
  const std::lock_guard guard(write_mutex);
  const KvDir::Lock lock(dir, false);
  const KvHeader& h = piece.header;
  if (const int error = file.rename_to(dir.path_of(h.id, piece.is_block()))) {
    fault = "cannot rename";
    return error;
  }
  const auto added =
      piece.is_block() ? write_index.add_block(h, now()) : write_index.add_frontier(h, now());
  if (added.ok() && *added) return 0;
  // Its parent was evicted meanwhile, or the index cannot be written.
  dir.remove_file(h.id, piece.is_block());
  check_index(added.status());
  fault = added.ok() ? "the block before it is gone" : added.status().message();
  return added.ok() ? -ENOENT : -EIO;
}

void KvStore::Impl::disk_fault(const Piece& piece, int error, const std::string& fault) {
  const bool full = is_disk_full(error);
  if (error != -ENOENT) {
    log(fmt::format("{}: {}: {}; nothing is stored for {} s", dir.path(), fault,
                    std::strerror(-error), kPause.count()));
    const std::lock_guard guard(queue_mutex);
    paused_until = std::chrono::steady_clock::now() + kPause;
  }
  drop(piece, full ? &KvStats::dropped_no_space : &KvStats::dropped_failed);
}

// Whether n_bytes more fit the budget, after eviction if need be. A little more than asked is
// evicted, so that not every write has to.
bool KvStore::Impl::make_room(uint64_t n_bytes, const Piece& piece) {
  const uint64_t budget = options.budget_bytes - std::min(kMaxLogBytes, options.budget_bytes / 4);
  uint64_t used = 0;
  {
    const std::lock_guard guard(write_mutex);
    used = used_bytes_locked();
  }
  if (used + n_bytes <= budget) return true;
  if (n_bytes > budget) return false;
  const uint64_t wanted = used + n_bytes - budget;
  return evict(wanted + budget / 64, piece.header.parent) >= wanted;
}

void KvStore::Impl::drop_superseded(uint64_t conversation) {
  const std::lock_guard guard(write_mutex);
  const auto unowned = write_index.drop_superseded(conversation, block_tokens());
  check_index(unowned.status());
  if (!unowned.ok() || unowned->empty()) return;
  const KvDir::Lock lock(dir, true);
  for (const FrontierRow& f : *unowned) {
    // In use: it stays until it is evicted.
    if (dir.remove_unpinned_frontier(f.id) == -EBUSY) continue;
    check_index(write_index.remove(std::span(&f.id, 1), {}));
  }
}

}  // namespace narwhal
