// What is behind KvStore: two views of the index, and the thread that writes.
//
// Locks, in the order they may be taken:
//   write_mutex   the index for writing, the directory's lock, changes of files
//   read_mutex    the index for reading
//   queue_mutex   everything below it; never held during I/O
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "kvstore/kv_dir.h"
#include "kvstore/kv_forest.h"
#include "kvstore/kv_index.h"
#include "kvstore/kv_store.h"

namespace narwhal {

// What the log of the index may take of the budget.
inline constexpr uint64_t kMaxLogBytes = uint64_t{4} << 20;

struct KvStore::Impl {
  // The bytes of one file to be written.
  struct Piece {
    KvHeader header;
    std::unique_ptr<std::byte[]> payload;

    bool is_block() const { return header.kind == KvFileKind::kBlock; }
    std::span<const std::byte> bytes() const { return {payload.get(), header.payload_bytes}; }
  };
  struct Job {
    uint64_t n_bytes = 0;
    std::function<void()> run;
  };

  explicit Impl(KvStoreOptions o, KvDir d);
  ~Impl();

  Status start();
  uint32_t block_tokens() const { return static_cast<uint32_t>(options.block_tokens); }
  bool read_only() const { return !dir.writable(); }
  void log(const std::string& line) const;
  int64_t now() const;  // seconds since 1970

  // [0] the root, [k] the name of the first k whole blocks.
  std::vector<KvId> chain(std::span<const int32_t> tokens) const;

  // Reading (kv_store.cc).
  std::optional<Hit> find_on_disk(std::span<const int32_t> tokens);
  std::optional<Hit> open_hit(const FrontierRow& row, std::span<const KvId> chain,
                              std::span<const int32_t> tokens);
  bool blocks_in_place(std::span<const KvId> blocks);
  struct Chain {
    std::vector<KvId> blocks;
    std::vector<int32_t> tokens;
  };
  Result<Chain> read_chain(KvId last, const KvId& root);

  // The queue (kv_queue.cc).
  bool enqueue(uint64_t n_bytes, std::function<void()> run);
  void put_piece(Piece piece, std::span<const std::span<const std::byte>> pieces);
  void work();
  bool is_paused();
  bool has_room(uint64_t n_bytes);
  void drop(const Piece& piece, uint64_t KvStats::*counter);
  void forget_known();  // takes the set of stored blocks from the index again

  // Writing (kv_writer.cc); on the writer's thread, or a caller's where stated.
  void write_piece(Piece& piece);
  int write_file(Piece& piece, std::string& fault);
  int write_temporary(KvDir::Temporary& file, Piece& piece);
  bool is_worth_writing(const Piece& piece);
  bool make_room(uint64_t n_bytes, const Piece& piece);
  void drop_superseded(uint64_t conversation);
  void disk_fault(const Piece& piece, int error, const std::string& fault);

  // Upkeep (kv_upkeep.cc); any thread. Those ending in _locked: write_mutex and the exclusive lock
  // of the directory are held.
  Status open_index_locked();
  Status reconcile_locked(KvIndex& index);
  void adopt_locked(KvIndex& index, const std::vector<KvDir::File>& files);
  void rebuild_index();
  // After a use of the index: logs what failed, and has it made again where it is damaged.
  void check_index(const Status& status, bool damaged = false);  // write_mutex is held
  void check_read_index_locked();                                // read_mutex is held
  uint64_t evict(uint64_t wanted, const KvId& spared);           // bytes freed
  uint64_t evict_locked(uint64_t wanted, const KvId& spared);
  uint64_t remove_locked(std::span<const KvId> frontiers, std::span<const KvId> blocks,
                         const KvForest& forest);
  void repair(const KvId& id, bool is_block, bool payload);
  bool repair_locked(const KvId& id, bool is_block, bool payload);
  void remove_subtree_locked(const KvId& block);
  void remove_frontier_locked(const KvId& id);
  uint64_t used_bytes_locked();

  const KvStoreOptions options;
  KvFileSystem& files;
  KvDir dir;

  std::mutex write_mutex;
  KvIndex write_index;
  bool rebuilding = false;
  std::chrono::steady_clock::time_point index_fault_logged{};

  std::mutex read_mutex;
  KvIndex read_index;

  std::mutex queue_mutex;
  std::condition_variable wake, idle;
  std::deque<Job> queue;
  uint64_t queued_bytes = 0;
  bool busy = false, stop = false;
  std::chrono::steady_clock::time_point paused_until{};
  std::unordered_set<KvId> known;             // blocks stored or queued
  std::unordered_set<KvId> queued_frontiers;  // not yet in the index
  std::map<std::string, std::shared_ptr<const KvTurn>, std::less<>> queued_turns;
  KvId last_found;  // frontier of the last find: what comes next builds on it
  KvStats counters;

  std::thread writer;
};

}  // namespace narwhal
