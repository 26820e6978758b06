// KvStore: computed prompt prefixes on disk, across conversations and restarts. It knows no model:
// a block is the bytes of block_tokens tokens, a frontier the bytes that make a prefix resumable.
//
//   NW_ASSIGN(auto store, KvStore::open({.dir = dir, .budget_bytes = n, .fingerprint = f}));
//   if (auto hit = store->find(tokens, tokens.size() - 1)) {           // before prefill
//     for (int i = 0; ok && i < hit->n_blocks(); i++) ok = store->read_block(*hit, i, rows).ok();
//     ok = ok && store->read_frontier(*hit, frontier).ok();
//     if (!ok) store->discard(*hit);                                   // and go cold
//   }
//   ...
//   for (int64_t p = store->stored_prefix(tokens); p + B <= n; p += B)   // B = block_tokens
//     store->put_block(tokens.first(p + B), rows of [p, p + B));
//   if (store->wants_frontier(tokens.first(P), kind))
//     store->put_frontier(tokens.first(P), bytes, kind, conversation);
//
// A block is named by the hash of its parent's name and its tokens, so every conversation that
// shares a prefix shares its blocks. A frontier at position P hangs off the last whole block before
// P; its bytes also carry the rows of the tail [P - P % B, P). docs/kv_format.md draws the files
// and argues why a crash at any instruction leaves a usable store.
//
// Nothing read back is trusted: sizes, tokens and checksums are verified, and what fails is a miss.
// No fault of the disk reaches the caller as anything but a miss, a dropped write or one log line.
//
// All functions may be called from any thread. put_* copy and return; a background thread writes in
// the order of the calls. Several processes may share a directory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvstore/kv_id.h"
#include "narwhal/status.h"

namespace narwhal {

class KvFileSystem;

struct KvStoreOptions {
  std::string dir;
  uint64_t budget_bytes = uint64_t{8} << 30;  // of the directory, index included
  // Of the model file and of the format and numerics of the bytes stored: other fingerprints in the
  // same directory never match. They share the budget.
  uint64_t fingerprint = 0;
  int block_tokens = 2048;
  // A turn end nearer than this to a stored turn end or anchor before it, or a prefill frontier
  // nearer to any, is not worth its bytes: those tokens are cheaper to compute again.
  int64_t min_frontier_gap = 512;
  uint64_t queue_bytes = uint64_t{512} << 20;        // copied bytes waiting for the disk
  bool create = true;                                // make the directory when it is missing
  std::function<void(std::string_view line)> log{};  // without it: standard error
  KvFileSystem* files = nullptr;  // fault injection (kv_file_system.h); null = the system
};

// What a frontier is kept for, which decides how long.
enum class FrontierKind : uint8_t {
  kTurnEnd = 0,  // the newest 4 of a conversation
  kAnchor = 1,   // end of the system text and tools, and the like: until evicted
  kPrefill = 2,  // passed while a long prompt was computed: the newest, sparser the further back
};

// A stored turn: the exact tokens, and what the caller needs to recognise it (its own format).
struct KvTurn {
  std::vector<int32_t> tokens;
  std::string metadata;
};

struct KvStats {
  // This directory now, all fingerprints.
  uint64_t n_blocks = 0, n_frontiers = 0, n_texts = 0, n_turns = 0;
  uint64_t bytes = 0, budget_bytes = 0;
  // This directory since it was made.
  uint64_t hits = 0, misses = 0, tokens_reused = 0;
  // This object since it was opened.
  uint64_t files_written = 0, bytes_written = 0, files_evicted = 0, files_damaged = 0;
  uint64_t dropped_queue_full = 0, dropped_no_space = 0, dropped_failed = 0;
  uint64_t queued_bytes = 0;
  bool read_only = false, paused = false;
};

// One point at which a conversation can be resumed, as `cache ls` shows it.
struct KvEntry {
  KvId id;
  uint64_t fingerprint = 0;
  FrontierKind kind = FrontierKind::kTurnEnd;
  int64_t n_tokens = 0, n_blocks = 0;
  uint64_t bytes = 0;      // its frontier and all its blocks
  uint64_t own_bytes = 0;  // what removing it would free
  uint64_t hits = 0;
  int64_t created_at = 0, used_at = 0;  // seconds since 1970
};

// The same in full.
struct KvEntryDetail {
  KvEntry entry;
  uint64_t conversation = 0;  // that wrote it first
  std::vector<KvId> blocks;   // from the beginning
  std::vector<int32_t> tokens;
};

struct KvCheck {
  uint64_t n_files = 0, n_bytes = 0;
  std::vector<std::string> faults;  // "NAME: what is wrong"; those files were removed
};

class KvStore {
 public:
  // Makes the directory (0700) and rebuilds the index from the files when it is lost or damaged. A
  // directory that cannot be written is used for reading. kBadInput: a symlink, another user's,
  // open to others, made by a newer version of this program; kFailed: cannot be made or read.
  static Result<std::unique_ptr<KvStore>> open(KvStoreOptions options);
  // Writes what is queued, then stops.
  ~KvStore();
  KvStore(const KvStore&) = delete;
  KvStore& operator=(const KvStore&) = delete;

  // A state that can be resumed: n_blocks() whole blocks and a frontier at n_tokens(). It is safe
  // from eviction, by any process, while this object lives. Independent of the store's lifetime.
  class Hit {
   public:
    Hit(Hit&& other) noexcept;
    Hit& operator=(Hit&& other) noexcept;
    ~Hit();

    int64_t n_tokens() const { return static_cast<int64_t>(tokens_.size()); }
    int n_blocks() const { return static_cast<int>(blocks_.size()); }
    uint64_t frontier_bytes() const { return frontier_bytes_; }  // as given to put_frontier

   private:
    friend class KvStore;
    Hit() = default;
    std::vector<int32_t> tokens_;
    std::vector<KvId> blocks_;
    KvId frontier_;
    uint64_t frontier_bytes_ = 0;
    int fd_ = -1;  // of the frontier file, locked shared: the pin
  };

  // The longest stored state of a prefix of `tokens`, at most `limit` tokens.
  std::optional<Hit> find(std::span<const int32_t> tokens, int64_t limit);

  // The rows of block i, split over `pieces` in order; their sizes must add up to what put_block
  // was given. kBadInput: damaged, of another size or gone; `pieces` then hold garbage: call
  // discard.
  Status read_block(const Hit& hit, int i, std::span<const std::span<std::byte>> pieces);
  Status read_block(const Hit& hit, int i, std::span<std::byte> into);
  // The same for the frontier; frontier_bytes() in all.
  Status read_frontier(const Hit& hit, std::span<const std::span<std::byte>> pieces);
  Status read_frontier(const Hit& hit, std::span<std::byte> into);

  // A read of this hit, or the computation after it, failed: removes every damaged file of it, and
  // the frontier in any case, so that the same request cannot fail twice on it.
  void discard(const Hit& hit);

  // Leading tokens, a multiple of block_tokens, whose blocks are stored or queued.
  int64_t stored_prefix(std::span<const int32_t> tokens);
  bool has_block(std::span<const int32_t> prefix) {
    return stored_prefix(prefix) == static_cast<int64_t>(prefix.size());
  }
  // The rows of the last block of `prefix`, whose length is a multiple of block_tokens. A block
  // whose parent was dropped is dropped, too; stored_prefix() tells where to begin again.
  void put_block(std::span<const int32_t> prefix,
                 std::span<const std::span<const std::byte>> pieces);
  void put_block(std::span<const int32_t> prefix, std::span<const std::byte> rows);

  // Whether put_frontier would store something; ask before collecting its bytes.
  bool wants_frontier(std::span<const int32_t> prefix, FrontierKind kind);
  // The bytes that, with the whole blocks of `prefix`, resume it: put those blocks first.
  // `conversation` groups the frontiers that replace each other.
  void put_frontier(std::span<const int32_t> prefix,
                    std::span<const std::span<const std::byte>> pieces, FrontierKind kind,
                    uint64_t conversation);
  void put_frontier(std::span<const int32_t> prefix, std::span<const std::byte> bytes,
                    FrontierKind kind, uint64_t conversation);

  // Remembers that `rendered` (a whole prompt up to some point) was computed as `tokens`, which may
  // differ from what tokenising it would give. Needs the whole blocks of `tokens` on disk.
  void put_text(std::string_view rendered, std::span<const int32_t> tokens);
  struct Text {
    size_t n_bytes = 0;  // of `rendered` that the tokens stand for
    std::vector<int32_t> tokens;
  };
  // The longest remembered text that `rendered` begins with.
  std::optional<Text> find_text(std::string_view rendered);

  // Turn memory: keys are tool-call ids, signatures, hashes, whatever the caller chose; an entry
  // may have several. At most 100,000 keys and 512 MB, least recently used first.
  void put_turn(std::span<const std::string> keys, KvTurn turn);
  std::optional<KvTurn> find_turn(std::string_view key);

  // Measured speed of prefill, which weighs what eviction would cost; may be called for each
  // prompt.
  void note_prefill(int64_t n_tokens, double seconds);

  // Waits until everything queued is on disk or dropped.
  void flush();
  KvStats stats();

  // For `narwhal cache`: all fingerprints of the directory.
  std::vector<KvEntry> entries();  // most recently used first
  // kUsage when there is no such entry, kBadInput when a file of it is damaged.
  Result<KvEntryDetail> detail(const KvId& id);
  // Reads every file and removes the damaged ones; `progress` gets bytes done and in all.
  Result<KvCheck> verify(const std::function<void(uint64_t, uint64_t)>& progress = {});
  // Removes what no entry needs, then the least valuable entries above the budget. Bytes freed.
  Result<uint64_t> collect_garbage();
  // Removes one entry and the blocks only it needed; kUsage when there is no such entry, kFailed
  // when it is in use. Bytes freed.
  Result<uint64_t> remove(const KvId& id);

 private:
  struct Impl;
  explicit KvStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace narwhal
