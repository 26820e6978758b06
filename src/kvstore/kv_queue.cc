// What callers hand over: copied, queued in order, run by the writer's thread.
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "kvstore/kv_store_impl.h"

namespace narwhal {
namespace {

uint64_t total_of(std::span<const std::span<const std::byte>> pieces) {
  uint64_t n = 0;
  for (const auto& piece : pieces) n += piece.size();
  return n;
}

}  // namespace

KvStore::Impl::~Impl() {
  if (!writer.joinable()) return;
  {
    const std::lock_guard guard(queue_mutex);
    stop = true;
  }
  wake.notify_all();
  writer.join();
}

bool KvStore::Impl::is_paused() {
  const std::lock_guard guard(queue_mutex);
  return std::chrono::steady_clock::now() < paused_until;
}

bool KvStore::Impl::has_room(uint64_t n_bytes) {
  const std::lock_guard guard(queue_mutex);
  return queued_bytes + n_bytes <= options.queue_bytes;
}

// Bookkeeping (n_bytes 0) always finds a place: the queue is bounded by what it copies.
bool KvStore::Impl::enqueue(uint64_t n_bytes, std::function<void()> run) {
  if (read_only()) return false;
  {
    const std::lock_guard guard(queue_mutex);
    if (n_bytes > 0 && queued_bytes + n_bytes > options.queue_bytes) return false;
    queued_bytes += n_bytes;
    queue.push_back({n_bytes, std::move(run)});
  }
  wake.notify_one();
  return true;
}

void KvStore::Impl::work() {
  std::unique_lock lock(queue_mutex);
  for (;;) {
    wake.wait(lock, [&] { return stop || !queue.empty(); });
    if (queue.empty()) return;
    Job job = std::move(queue.front());
    queue.pop_front();
    busy = true;
    lock.unlock();
    job.run();
    job.run = nullptr;  // frees what it copied before its bytes are given back
    lock.lock();
    busy = false;
    queued_bytes -= job.n_bytes;
    if (queue.empty()) idle.notify_all();
  }
}

void KvStore::flush() {
  std::unique_lock lock(impl_->queue_mutex);
  impl_->idle.wait(lock, [&] { return impl_->queue.empty() && !impl_->busy; });
}

void KvStore::Impl::drop(const Piece& piece, uint64_t KvStats::*counter) {
  const std::lock_guard guard(queue_mutex);
  counters.*counter += 1;
  known.erase(piece.header.id);
  queued_frontiers.erase(piece.header.id);
}

void KvStore::Impl::forget_known() {
  auto ids = write_index.block_ids();
  const std::lock_guard guard(queue_mutex);
  known = std::move(ids);
}

void KvStore::Impl::put_piece(Piece piece, std::span<const std::span<const std::byte>> pieces) {
  const uint64_t n = total_of(pieces);
  piece.header.payload_bytes = n;
  {
    const std::lock_guard guard(queue_mutex);
    auto& names = piece.is_block() ? known : queued_frontiers;
    if (!names.insert(piece.header.id).second) return;
  }
  if (is_paused()) return drop(piece, &KvStats::dropped_no_space);
  if (!has_room(n)) return drop(piece, &KvStats::dropped_queue_full);
  piece.payload = std::make_unique_for_overwrite<std::byte[]>(n);
  std::byte* at = piece.payload.get();
  for (const auto& p : pieces) {
    if (!p.empty()) std::memcpy(at, p.data(), p.size());
    at += p.size();
  }
  const auto shared = std::make_shared<Piece>(std::move(piece));
  // Another thread may have filled the queue meanwhile.
  if (!enqueue(n, [this, shared] { write_piece(*shared); })) {
    drop(*shared, &KvStats::dropped_queue_full);
  }
}

void KvStore::put_block(std::span<const int32_t> prefix,
                        std::span<const std::span<const std::byte>> pieces) {
  Impl& s = *impl_;
  const size_t n = s.block_tokens();
  NW_CHECK(!prefix.empty() && prefix.size() % n == 0,
           "a block ends at token {}, expected a multiple of {}", prefix.size(), n);
  if (s.read_only()) return;
  const std::vector<KvId> ids = s.chain(prefix);
  const auto tokens = prefix.last(n);
  Impl::Piece piece;
  piece.header = {.kind = KvFileKind::kBlock,
                  .fingerprint = s.options.fingerprint,
                  .block_tokens = s.block_tokens(),
                  .start = static_cast<int64_t>(prefix.size() - n),
                  .id = ids.back(),
                  .parent = ids[ids.size() - 2],
                  .tokens = {tokens.begin(), tokens.end()}};
  s.put_piece(std::move(piece), pieces);
}

void KvStore::put_block(std::span<const int32_t> prefix, std::span<const std::byte> rows) {
  put_block(prefix, std::span(&rows, 1));
}

void KvStore::put_frontier(std::span<const int32_t> prefix,
                           std::span<const std::span<const std::byte>> pieces, FrontierKind kind,
                           uint64_t conversation) {
  Impl& s = *impl_;
  if (s.read_only() || prefix.empty()) return;
  const std::vector<KvId> ids = s.chain(prefix);
  const auto tail = prefix.subspan((ids.size() - 1) * s.block_tokens());
  Impl::Piece piece;
  piece.header = {.kind = KvFileKind::kFrontier,
                  .fingerprint = s.options.fingerprint,
                  .block_tokens = s.block_tokens(),
                  .start = static_cast<int64_t>(prefix.size() - tail.size()),
                  .id = frontier_id(ids.back(), tail),
                  .parent = ids.back(),
                  .frontier_kind = static_cast<uint32_t>(kind),
                  .conversation = conversation,
                  .tokens = {tail.begin(), tail.end()}};
  if (wants_frontier(prefix, kind)) return s.put_piece(std::move(piece), pieces);
  // Already there: this conversation needs it, too.
  s.enqueue(0, [&s, header = piece.header] {
    {
      const std::lock_guard guard(s.write_mutex);
      if (!s.write_index.has_frontier(header.id)) return s.check_index(s.write_index.take_fault());
      s.check_index(s.write_index.add_frontier(header, s.now()).status());
    }
    s.drop_superseded(header.conversation);
  });
}

void KvStore::put_frontier(std::span<const int32_t> prefix, std::span<const std::byte> bytes,
                           FrontierKind kind, uint64_t conversation) {
  put_frontier(prefix, std::span(&bytes, 1), kind, conversation);
}

void KvStore::put_turn(std::span<const std::string> keys, KvTurn turn) {
  Impl& s = *impl_;
  const auto shared = std::make_shared<const KvTurn>(std::move(turn));
  const std::vector<std::string> names(keys.begin(), keys.end());
  {
    const std::lock_guard guard(s.queue_mutex);
    for (const std::string& key : names) s.queued_turns[key] = shared;
  }
  const bool queued = s.enqueue(0, [&s, shared, names] {
    {
      const std::lock_guard guard(s.write_mutex);
      TurnLimits limits;
      limits.n_bytes = std::min(limits.n_bytes, s.options.budget_bytes / 8);
      s.check_index(s.write_index.put_turn(s.options.fingerprint, names, *shared, limits));
    }
    const std::lock_guard guard(s.queue_mutex);
    for (const std::string& key : names) {
      const auto it = s.queued_turns.find(key);
      if (it != s.queued_turns.end() && it->second == shared) s.queued_turns.erase(it);
    }
  });
  if (queued) return;
  const std::lock_guard guard(s.queue_mutex);
  for (const std::string& key : names) s.queued_turns.erase(key);
}

void KvStore::note_prefill(int64_t n_tokens, double seconds) {
  Impl& s = *impl_;
  if (n_tokens < 1 || !(seconds > 0)) return;
  s.enqueue(0, [&s, speed = static_cast<double>(n_tokens) / seconds] {
    const std::lock_guard guard(s.write_mutex);
    s.check_index(s.write_index.note_speed(s.options.fingerprint, speed));
  });
}

KvStats KvStore::stats() {
  Impl& s = *impl_;
  KvStats stats;
  {
    const std::lock_guard guard(s.queue_mutex);
    stats = s.counters;
    stats.queued_bytes = s.queued_bytes;
    stats.paused = std::chrono::steady_clock::now() < s.paused_until;
  }
  stats.read_only = s.read_only();
  stats.budget_bytes = s.options.budget_bytes;
  const std::lock_guard guard(s.read_mutex);
  s.read_index.read_counters(stats);
  stats.bytes = s.read_index.total_bytes() + s.dir.index_bytes() + s.dir.index_log_bytes();
  if (!s.read_index.take_fault().ok()) stats.bytes = 0;
  return stats;
}

}  // namespace narwhal
