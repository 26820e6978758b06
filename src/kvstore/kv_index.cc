#include "kvstore/kv_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace narwhal {
namespace {

constexpr double kHalfLifeSeconds = 6 * 3600;
constexpr size_t kKeptTurnEnds = 4;

constexpr char kTables[] = R"sql(
CREATE TABLE blocks(
  id BLOB PRIMARY KEY, parent BLOB NOT NULL, fingerprint INTEGER NOT NULL,
  start INTEGER NOT NULL, bytes INTEGER NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX blocks_by_parent ON blocks(parent);
CREATE TABLE frontiers(
  id BLOB PRIMARY KEY, parent BLOB NOT NULL, fingerprint INTEGER NOT NULL,
  n_tokens INTEGER NOT NULL, kind INTEGER NOT NULL, bytes INTEGER NOT NULL,
  hits INTEGER NOT NULL, heat REAL NOT NULL, created INTEGER NOT NULL,
  used INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX frontiers_by_parent ON frontiers(parent, n_tokens);
CREATE TABLE owners(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, conversation INTEGER NOT NULL, frontier BLOB NOT NULL,
  kind INTEGER NOT NULL, UNIQUE(conversation, frontier, kind));
CREATE INDEX owners_by_frontier ON owners(frontier);
CREATE TABLE texts(
  hash BLOB PRIMARY KEY, fingerprint INTEGER NOT NULL, n_bytes INTEGER NOT NULL,
  parent BLOB NOT NULL, tail BLOB NOT NULL, checksum INTEGER NOT NULL,
  used INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX texts_by_length ON texts(fingerprint, n_bytes);
CREATE INDEX texts_by_parent ON texts(parent);
CREATE TABLE turns(
  id INTEGER PRIMARY KEY, tokens BLOB NOT NULL, metadata BLOB NOT NULL,
  checksum INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE INDEX turns_by_use ON turns(used);
CREATE TABLE turn_keys(
  fingerprint INTEGER NOT NULL, key BLOB NOT NULL, turn INTEGER NOT NULL,
  PRIMARY KEY(fingerprint, key)) WITHOUT ROWID;
CREATE INDEX turn_keys_by_turn ON turn_keys(turn);
CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE speeds(fingerprint INTEGER PRIMARY KEY, tokens_per_second REAL NOT NULL);
PRAGMA user_version = 1;
)sql";

FrontierRow frontier_row(const Query& q) {
  FrontierRow r;
  r.id = q.id(0);
  r.parent = q.id(1);
  r.fingerprint = static_cast<uint64_t>(q.integer(2));
  r.n_tokens = q.integer(3);
  r.kind = static_cast<FrontierKind>(q.integer(4));
  r.bytes = static_cast<uint64_t>(q.integer(5));
  r.hits = static_cast<uint64_t>(q.integer(6));
  r.heat = q.real(7);
  r.created = q.integer(8);
  r.used = q.integer(9);
  return r;
}

BlockRow block_row(const Query& q) {
  BlockRow r;
  r.id = q.id(0);
  r.parent = q.id(1);
  r.fingerprint = static_cast<uint64_t>(q.integer(2));
  r.start = q.integer(3);
  r.bytes = static_cast<uint64_t>(q.integer(4));
  r.created = q.integer(5);
  return r;
}

// Whether the prefill frontier at block i stays once its conversation has reached block n: about
// two for every doubling of the distance, always the same ones.
bool sparse_enough(int64_t i, int64_t n) {
  if (i <= 0 || i >= n) return false;
  return n - i < int64_t{4} << std::countr_zero(static_cast<uint64_t>(i));
}

}  // namespace

double cooled(double heat, int64_t used, int64_t now) {
  const auto age = static_cast<double>(std::max<int64_t>(0, now - used));
  return heat * std::exp2(-age / kHalfLifeSeconds);
}

Status KvIndex::make_tables() {
  Transaction t(db_);
  int64_t version = 0;
  {
    Query q(db_, "PRAGMA user_version");
    if (q.next()) version = q.integer(0);
  }
  if (version == 0) db_.exec(kTables);
  NW_TRY(t.commit());
  if (version > kSchema) {
    return bad_input(
        fmt::format("the index has schema {}, this program knows {}; use a newer narwhal or "
                    "another folder",
                    version, kSchema));
  }
  return ok_status();
}

Status KvIndex::open(const std::string& path, int busy_ms) {
  NW_ASSIGN(db_, Database::open(path, busy_ms));
  // In this mode a commit needs no fsync and a crash loses at most the newest rows, which are found
  // again from the files.
  db_.exec("PRAGMA journal_mode = WAL");
  db_.exec("PRAGMA synchronous = NORMAL");
  db_.exec("PRAGMA wal_autocheckpoint = 128");
  db_.exec("PRAGMA journal_size_limit = 1048576");
  NW_TRY(make_tables());
  {
    Query q(db_, "SELECT count(*) FROM turn_keys");
    if (q.next()) n_turn_keys_ = static_cast<uint64_t>(q.integer(0));
  }
  {
    Query q(db_, "SELECT total(length(tokens) + length(metadata)) FROM turns");
    if (q.next()) n_turn_bytes_ = static_cast<uint64_t>(q.real(0));
  }
  return db_.take_fault();
}

bool KvIndex::has_block(const KvId& id) {
  Query q(db_, "SELECT 1 FROM blocks WHERE id = ?");
  return q.bind(id).next();
}

bool KvIndex::has_frontier(const KvId& id) {
  Query q(db_, "SELECT 1 FROM frontiers WHERE id = ?");
  return q.bind(id).next();
}

std::optional<BlockRow> KvIndex::find_block(const KvId& id) {
  Query q(db_, "SELECT id, parent, fingerprint, start, bytes, created FROM blocks WHERE id = ?");
  if (!q.bind(id).next()) return std::nullopt;
  return block_row(q);
}

std::vector<FrontierRow> KvIndex::frontiers_of(const KvId& parent) {
  Query q(db_,
          "SELECT id, parent, fingerprint, n_tokens, kind, bytes, hits, heat, created, used "
          "FROM frontiers WHERE parent = ? ORDER BY n_tokens DESC");
  std::vector<FrontierRow> rows;
  q.bind(parent);
  while (q.next()) rows.push_back(frontier_row(q));
  return rows;
}

int64_t KvIndex::last_frontier(std::span<const KvId> chain, uint32_t block_tokens,
                               std::span<const int32_t> tokens, bool of_prefill) {
  for (size_t k = chain.size(); k-- > 0;) {
    const size_t border = k * block_tokens;
    for (const FrontierRow& f : frontiers_of(chain[k])) {
      const auto end = static_cast<size_t>(f.n_tokens);
      if (end < border || end > tokens.size()) continue;
      if (f.kind == FrontierKind::kPrefill && !of_prefill) continue;
      if (frontier_id(chain[k], tokens.subspan(border, end - border)) == f.id) return f.n_tokens;
    }
  }
  return 0;
}

std::vector<BlockRow> KvIndex::blocks() {
  Query q(db_, "SELECT id, parent, fingerprint, start, bytes, created FROM blocks ORDER BY start");
  std::vector<BlockRow> rows;
  while (q.next()) rows.push_back(block_row(q));
  return rows;
}

std::vector<FrontierRow> KvIndex::frontiers() {
  Query q(db_,
          "SELECT id, parent, fingerprint, n_tokens, kind, bytes, hits, heat, created, used "
          "FROM frontiers ORDER BY used DESC, n_tokens DESC");
  std::vector<FrontierRow> rows;
  while (q.next()) rows.push_back(frontier_row(q));
  return rows;
}

std::vector<FileRow> KvIndex::files() {
  Query q(db_, "SELECT id, 1, bytes FROM blocks UNION ALL SELECT id, 0, bytes FROM frontiers");
  std::vector<FileRow> rows;
  while (q.next()) {
    rows.push_back({q.id(0), q.integer(1) == 1, static_cast<uint64_t>(q.integer(2))});
  }
  return rows;
}

std::unordered_set<KvId> KvIndex::block_ids() {
  Query q(db_, "SELECT id FROM blocks");
  std::unordered_set<KvId> ids;
  while (q.next()) ids.insert(q.id(0));
  return ids;
}

uint64_t KvIndex::total_bytes() {
  Query q(db_, "SELECT (SELECT total(bytes) FROM blocks) + (SELECT total(bytes) FROM frontiers)");
  return q.next() ? static_cast<uint64_t>(q.real(0)) : 0;
}

Result<bool> KvIndex::add_block(const KvHeader& h, int64_t now) {
  Transaction t(db_);
  if (h.start != 0 && !has_block(h.parent)) {
    NW_TRY(t.commit());
    return false;
  }
  {
    Query q(db_, "INSERT OR IGNORE INTO blocks VALUES(?, ?, ?, ?, ?, ?)");
    q.bind(h.id, h.parent, h.fingerprint, h.start, h.file_bytes(), now).run();
  }
  NW_TRY(t.commit());
  return true;
}

Result<bool> KvIndex::add_frontier(const KvHeader& h, int64_t now) {
  Transaction t(db_);
  if (h.start != 0 && !has_block(h.parent)) {
    NW_TRY(t.commit());
    return false;
  }
  {
    Query q(db_, "INSERT OR IGNORE INTO frontiers VALUES(?, ?, ?, ?, ?, ?, 0, 1, ?, ?)");
    q.bind(h.id, h.parent, h.fingerprint, h.end(), static_cast<int64_t>(h.frontier_kind),
           h.file_bytes(), now, now);
    q.run();
  }
  {
    Query q(db_, "INSERT OR REPLACE INTO owners(conversation, frontier, kind) VALUES(?, ?, ?)");
    q.bind(h.conversation, h.id, static_cast<int64_t>(h.frontier_kind)).run();
  }
  NW_TRY(t.commit());
  return true;
}

Result<std::vector<FrontierRow>> KvIndex::drop_superseded(uint64_t conversation,
                                                          uint32_t block_tokens) {
  Transaction t(db_);
  struct Owned {
    int64_t seq, block;
    FrontierKind kind;
    FrontierRow row;
  };
  std::vector<Owned> owned;
  {
    Query q(db_,
            "SELECT id, parent, fingerprint, n_tokens, frontiers.kind, bytes, hits, heat, created, "
            "used, seq, owners.kind FROM owners JOIN frontiers ON id = frontier "
            "WHERE conversation = ? ORDER BY seq DESC");
    q.bind(conversation);
    while (q.next()) {
      owned.push_back({q.integer(10), q.integer(3) / block_tokens,
                       static_cast<FrontierKind>(q.integer(11)), frontier_row(q)});
    }
  }
  std::vector<FrontierRow> unowned;
  size_t n_turn_ends = 0;
  int64_t newest_prefill = -1;
  for (const Owned& o : owned) {
    bool keep = true;
    if (o.kind == FrontierKind::kTurnEnd) {
      keep = ++n_turn_ends <= kKeptTurnEnds;
    } else if (o.kind == FrontierKind::kPrefill) {
      keep = newest_prefill < 0 || sparse_enough(o.block, newest_prefill);
      if (newest_prefill < 0) newest_prefill = o.block;
    }
    if (keep) continue;
    Query(db_, "DELETE FROM owners WHERE seq = ?").bind(o.seq).run();
    Query others(db_, "SELECT 1 FROM owners WHERE frontier = ?");
    if (!others.bind(o.row.id).next()) unowned.push_back(o.row);
  }
  NW_TRY(t.commit());
  return unowned;
}

Status KvIndex::remove(std::span<const KvId> frontiers, std::span<const KvId> blocks) {
  Transaction t(db_);
  for (const KvId& id : frontiers) {
    Query(db_, "DELETE FROM frontiers WHERE id = ?").bind(id).run();
    Query(db_, "DELETE FROM owners WHERE frontier = ?").bind(id).run();
  }
  for (const KvId& id : blocks) {
    Query(db_, "DELETE FROM blocks WHERE id = ?").bind(id).run();
    Query(db_, "DELETE FROM texts WHERE parent = ?").bind(id).run();
  }
  return t.commit();
}

Status KvIndex::compact() {
  db_.exec("VACUUM");
  take_log_back();
  return db_.take_fault();
}

void KvIndex::take_log_back() {
  Query q(db_, "PRAGMA wal_checkpoint(TRUNCATE)");
  q.run();
}

std::vector<FileRow> KvIndex::subtree(const KvId& block) {
  Query q(db_,
          "WITH RECURSIVE tree(id) AS (SELECT ?1 UNION "
          "SELECT blocks.id FROM blocks JOIN tree ON blocks.parent = tree.id) "
          "SELECT id, 1, 0 FROM tree UNION ALL "
          "SELECT frontiers.id, 0, bytes FROM frontiers JOIN tree ON frontiers.parent = tree.id");
  std::vector<FileRow> rows;
  q.bind(block);
  while (q.next()) {
    rows.push_back({q.id(0), q.integer(1) == 1, static_cast<uint64_t>(q.integer(2))});
  }
  return rows;
}

}  // namespace narwhal
