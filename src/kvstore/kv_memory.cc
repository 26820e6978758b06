// The part of KvIndex that files cannot bring back: uses, texts and turns.
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "kvstore/kv_index.h"

namespace narwhal {
namespace {

constexpr int64_t kMaxTexts = 20000;

// SQLite has no checksums of its own, and wrong tokens must never come out.
template <class... T>
uint64_t checksum(const T&... parts) {
  uint64_t h = 0;
  ((h = XXH3_64bits_withSeed(parts.data(), parts.size_bytes(), h + parts.size_bytes())), ...);
  return h;
}

std::span<const std::byte> bytes_of(std::string_view s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

std::span<const std::byte> bytes_of(const KvId& id) { return std::as_bytes(std::span(&id, 1)); }

bool read_tokens(std::span<const std::byte> blob, std::vector<int32_t>& tokens) {
  if (blob.size() % sizeof(int32_t) != 0) return false;
  tokens.resize(blob.size() / sizeof(int32_t));
  if (!tokens.empty()) std::memcpy(tokens.data(), blob.data(), blob.size());
  return true;
}

void count(Database& db, std::string_view name, int64_t n) {
  Query q(db,
          "INSERT INTO counters VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value = value + "
          "excluded.value");
  q.bind(name, n).run();
}

}  // namespace

Status KvIndex::touch(const KvId& frontier, int64_t n_tokens, int64_t now) {
  Transaction t(db_);
  double heat = 0;
  {
    Query q(db_, "SELECT heat, used FROM frontiers WHERE id = ?");
    if (q.bind(frontier).next()) heat = cooled(q.real(0), q.integer(1), now);
  }
  {
    Query q(db_, "UPDATE frontiers SET hits = hits + 1, heat = ?, used = ? WHERE id = ?");
    q.bind(heat + 1, now, frontier).run();
  }
  count(db_, "hits", 1);
  count(db_, "tokens_reused", n_tokens);
  return t.commit();
}

Status KvIndex::count_miss() {
  count(db_, "misses", 1);
  return db_.take_fault();
}

void KvIndex::read_counters(KvStats& stats) {
  Query q(db_, "SELECT name, value FROM counters");
  while (q.next()) {
    const auto value = static_cast<uint64_t>(q.integer(1));
    if (q.text(0) == "hits") stats.hits = value;
    if (q.text(0) == "misses") stats.misses = value;
    if (q.text(0) == "tokens_reused") stats.tokens_reused = value;
  }
  Query sizes(db_,
              "SELECT (SELECT count(*) FROM blocks), (SELECT count(*) FROM frontiers), "
              "(SELECT count(*) FROM texts), (SELECT count(*) FROM turns)");
  if (!sizes.next()) return;
  stats.n_blocks = static_cast<uint64_t>(sizes.integer(0));
  stats.n_frontiers = static_cast<uint64_t>(sizes.integer(1));
  stats.n_texts = static_cast<uint64_t>(sizes.integer(2));
  stats.n_turns = static_cast<uint64_t>(sizes.integer(3));
}

Status KvIndex::note_speed(uint64_t fingerprint, double tokens_per_second) {
  Query q(db_,
          "INSERT INTO speeds VALUES(?, ?) ON CONFLICT(fingerprint) DO UPDATE SET "
          "tokens_per_second = 0.75 * tokens_per_second + 0.25 * excluded.tokens_per_second");
  q.bind(fingerprint, tokens_per_second).run();
  return db_.take_fault();
}

double KvIndex::speed(uint64_t fingerprint) {
  Query q(db_, "SELECT tokens_per_second FROM speeds WHERE fingerprint = ?");
  return q.bind(fingerprint).next() && q.real(0) > 0 ? q.real(0) : 1;
}

Status KvIndex::put_text(const KvId& hash, uint64_t fingerprint, int64_t n_bytes,
                         const TextRow& row, int64_t now) {
  const auto tail = std::as_bytes(std::span(row.tail));
  Transaction t(db_);
  {
    Query q(db_, "INSERT OR REPLACE INTO texts VALUES(?, ?, ?, ?, ?, ?, ?)");
    q.bind(hash, fingerprint, n_bytes, row.parent, tail,
           checksum(bytes_of(hash), bytes_of(row.parent), tail), now);
    q.run();
  }
  int64_t n_texts = 0;
  {
    Query q(db_, "SELECT count(*) FROM texts");
    if (q.next()) n_texts = q.integer(0);
  }
  if (n_texts > kMaxTexts) {
    Query q(db_, "DELETE FROM texts WHERE hash IN (SELECT hash FROM texts ORDER BY used LIMIT ?)");
    q.bind(kMaxTexts / 16).run();
  }
  return t.commit();
}

std::vector<int64_t> KvIndex::text_lengths(uint64_t fingerprint, int64_t longest) {
  Query q(db_,
          "SELECT DISTINCT n_bytes FROM texts WHERE fingerprint = ? AND n_bytes <= ? "
          "ORDER BY n_bytes");
  std::vector<int64_t> lengths;
  q.bind(fingerprint, longest);
  while (q.next()) lengths.push_back(q.integer(0));
  return lengths;
}

std::optional<TextRow> KvIndex::find_text(const KvId& hash) {
  Query q(db_, "SELECT parent, tail, checksum FROM texts WHERE hash = ?");
  if (!q.bind(hash).next()) return std::nullopt;
  TextRow row{q.id(0), {}};
  const auto tail = q.blob(1);
  if (checksum(bytes_of(hash), bytes_of(row.parent), tail) != static_cast<uint64_t>(q.integer(2)) ||
      !read_tokens(tail, row.tail)) {
    return std::nullopt;
  }
  return row;
}

Status KvIndex::put_turn(uint64_t fingerprint, std::span<const std::string> keys,
                         const KvTurn& turn, const TurnLimits& limits) {
  const auto tokens = std::as_bytes(std::span(turn.tokens));
  const auto metadata = bytes_of(turn.metadata);
  Transaction t(db_);
  int64_t id = 0;
  {
    Query q(db_,
            "INSERT INTO turns(tokens, metadata, checksum, used) "
            "VALUES(?, ?, ?, (SELECT ifnull(max(used), 0) + 1 FROM turns)) RETURNING id");
    if (q.bind(tokens, metadata, checksum(tokens, metadata)).next()) id = q.integer(0);
    q.run();
  }
  for (const std::string& key : keys) {
    Query q(db_, "INSERT OR REPLACE INTO turn_keys VALUES(?, ?, ?)");
    q.bind(fingerprint, bytes_of(key), id).run();
  }
  n_turn_keys_ += keys.size();
  n_turn_bytes_ += tokens.size() + metadata.size();
  if (n_turn_keys_ > limits.n_keys || n_turn_bytes_ > limits.n_bytes) {
    db_.exec(
        "DELETE FROM turns WHERE NOT EXISTS (SELECT 1 FROM turn_keys WHERE turn = turns.id);"
        "DELETE FROM turns WHERE id IN (SELECT id FROM turns ORDER BY used LIMIT "
        "(SELECT count(*) / 16 + 1 FROM turns));"
        "DELETE FROM turn_keys WHERE NOT EXISTS (SELECT 1 FROM turns WHERE id = turn)");
    Query keys_left(db_, "SELECT count(*) FROM turn_keys");
    if (keys_left.next()) n_turn_keys_ = static_cast<uint64_t>(keys_left.integer(0));
    Query bytes_left(db_, "SELECT total(length(tokens) + length(metadata)) FROM turns");
    if (bytes_left.next()) n_turn_bytes_ = static_cast<uint64_t>(bytes_left.real(0));
  }
  return t.commit();
}

std::optional<KvTurn> KvIndex::find_turn(uint64_t fingerprint, std::string_view key) {
  Query q(db_,
          "SELECT tokens, metadata, checksum FROM turns JOIN turn_keys ON turn = turns.id "
          "WHERE fingerprint = ? AND key = ?");
  if (!q.bind(fingerprint, bytes_of(key)).next()) return std::nullopt;
  const auto tokens = q.blob(0), metadata = q.blob(1);
  KvTurn turn;
  if (checksum(tokens, metadata) != static_cast<uint64_t>(q.integer(2)) ||
      !read_tokens(tokens, turn.tokens)) {
    return std::nullopt;
  }
  turn.metadata.assign(reinterpret_cast<const char*>(metadata.data()), metadata.size());
  return turn;
}

Status KvIndex::touch_turn(uint64_t fingerprint, std::string_view key) {
  Query q(db_,
          "UPDATE turns SET used = (SELECT max(used) + 1 FROM turns) WHERE id = "
          "(SELECT turn FROM turn_keys WHERE fingerprint = ? AND key = ?)");
  q.bind(fingerprint, bytes_of(key)).run();
  return db_.take_fault();
}

}  // namespace narwhal
