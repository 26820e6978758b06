// KvIndex: what is known about the files of a directory, in SQLite. It can always be made again
// from the files, except for texts, turns, owners and hit counts, whose loss costs time only.
//
// Invariants, kept by every transaction:
//   a block whose start is not 0 has its parent in the index
//   a frontier at or past the first whole block has its parent in the index
//   a text, too
// so a frontier in the index implies its whole chain.
//
// Lookups of a faulty index find nothing; changes return a Status. One thread at a time per object;
// several objects and processes may use one file.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "kvstore/kv_file.h"
#include "kvstore/kv_store.h"
#include "kvstore/sqlite.h"

namespace narwhal {

struct BlockRow {
  KvId id, parent;
  uint64_t fingerprint = 0;
  int64_t start = 0;
  uint64_t bytes = 0;
  int64_t created = 0;
};

struct FrontierRow {
  KvId id, parent;
  uint64_t fingerprint = 0;
  int64_t n_tokens = 0;  // position
  FrontierKind kind = FrontierKind::kTurnEnd;
  uint64_t bytes = 0;
  uint64_t hits = 0;
  double heat = 0;  // uses, each halved every six hours since; as of `used`
  int64_t created = 0, used = 0;
};

struct FileRow {
  KvId id;
  bool is_block = false;
  uint64_t bytes = 0;
};

// The last block and the tokens after it that a remembered text stands for.
struct TextRow {
  KvId parent;
  std::vector<int32_t> tail;
};

struct TurnLimits {
  uint64_t n_keys = 100000, n_bytes = uint64_t{512} << 20;
};

class KvIndex {
 public:
  static constexpr int kSchema = 1;

  // Makes the tables where there are none. kBadInput: of a newer schema; damaged() tells whether a
  // failure is damage, to be answered by removing the file.
  Status open(const std::string& path, int busy_ms);
  void close() { db_ = {}; }
  bool damaged() const { return db_.damaged(); }
  Status take_fault() { return db_.take_fault(); }

  // Files.
  bool has_block(const KvId& id);
  bool has_frontier(const KvId& id);
  std::vector<FrontierRow> frontiers_of(const KvId& parent);  // longest first
  std::optional<BlockRow> find_block(const KvId& id);
  // Position of the last frontier at or before position `end` among those of `chain`, whose [0] is
  // the root; 0 when there is none. `tokens` are those of the chain and what follows. Without
  // `of_prefill`, those that were passed in a prefill do not count.
  int64_t last_frontier(std::span<const KvId> chain, uint32_t block_tokens,
                        std::span<const int32_t> tokens, bool of_prefill);
  std::vector<BlockRow> blocks();
  std::vector<FrontierRow> frontiers();
  std::vector<FileRow> files();
  std::unordered_set<KvId> block_ids();
  uint64_t total_bytes();

  // False when the parent is not in the index (then nothing is changed).
  Result<bool> add_block(const KvHeader& header, int64_t now);
  // Adds the frontier or, when it is there, only its owner.
  Result<bool> add_frontier(const KvHeader& header, int64_t now);
  // Forgets what `conversation` no longer needs after its frontier at n_tokens was added: all but
  // its newest 4 turn ends, and prefill frontiers that are not sparse enough. Returns those
  // that nothing owns any more.
  Result<std::vector<FrontierRow>> drop_superseded(uint64_t conversation, uint32_t block_tokens);
  // Rows of these files, and of the texts that hang off the blocks.
  Status remove(std::span<const KvId> frontiers, std::span<const KvId> blocks);
  // The block and everything that hangs off it, itself included.
  std::vector<FileRow> subtree(const KvId& block);

  // Gives unused pages back to the file system.
  Status compact();
  // Moves SQLite's log into the file; waits for readers, but not for long.
  void take_log_back();

  // Uses and statistics.
  Status touch(const KvId& frontier, int64_t n_tokens, int64_t now);
  Status count_miss();
  void read_counters(KvStats& stats);
  Status note_speed(uint64_t fingerprint, double tokens_per_second);
  double speed(uint64_t fingerprint);  // 1 when unknown

  // Texts.
  Status put_text(const KvId& hash, uint64_t fingerprint, int64_t n_bytes, const TextRow& row,
                  int64_t now);
  std::vector<int64_t> text_lengths(uint64_t fingerprint, int64_t longest);  // ascending
  std::optional<TextRow> find_text(const KvId& hash);

  // Turns.
  Status put_turn(uint64_t fingerprint, std::span<const std::string> keys, const KvTurn& turn,
                  const TurnLimits& limits);
  std::optional<KvTurn> find_turn(uint64_t fingerprint, std::string_view key);
  Status touch_turn(uint64_t fingerprint, std::string_view key);

 private:
  Status make_tables();
  Database db_;
  uint64_t n_turn_keys_ = 0, n_turn_bytes_ = 0;  // counted at open, then kept; recounted at limits
};

// `heat` of a use count at `used`, as of `now`. A clock that went back changes nothing.
double cooled(double heat, int64_t used, int64_t now);

}  // namespace narwhal
