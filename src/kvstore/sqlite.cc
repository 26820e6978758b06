#include "kvstore/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <array>
#include <utility>

namespace narwhal {

Database& Database::operator=(Database&& other) noexcept {
  std::swap(db_, other.db_);
  std::swap(statements_, other.statements_);
  std::swap(fault_, other.fault_);
  std::swap(damaged_, other.damaged_);
  return *this;
}

Database::~Database() {
  for (const auto& [sql, stmt] : statements_) sqlite3_finalize(stmt);
  sqlite3_close(db_);
}

Result<Database> Database::open(const std::string& path, int busy_ms) {
  Database db;
  const int code =
      sqlite3_open_v2(path.c_str(), &db.db_,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (code != SQLITE_OK) {
    return failed(fmt::format("{}: cannot open the index: {}", path, sqlite3_errstr(code)));
  }
  sqlite3_busy_timeout(db.db_, busy_ms);
  return db;
}

void Database::note(int code, const char* what) {
  const int primary = code & 0xff;
  damaged_ |= primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB;
  if (fault_.ok()) {
    fault_ = failed(fmt::format("index: {} ({})", db_ ? sqlite3_errmsg(db_) : "closed", what));
  }
}

void Database::exec(const char* sql) {
  if (has_fault()) return;
  const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) note(code, sql);
}

Status Database::take_fault() { return std::exchange(fault_, {}); }

Query::Query(Database& db, const char* sql) : db_(db) {
  const auto it = db.statements_.find(sql);
  if (it != db.statements_.end()) {
    stmt_ = it->second;
    return;
  }
  const int code = sqlite3_prepare_v3(db.db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt_, nullptr);
  if (code != SQLITE_OK) {
    db.note(code, sql);
    stmt_ = nullptr;
    return;
  }
  db.statements_.emplace(sql, stmt_);
}

Query::~Query() {
  if (!stmt_) return;
  sqlite3_reset(stmt_);
  sqlite3_clear_bindings(stmt_);
}

bool Query::next() {
  if (!stmt_ || db_.has_fault()) return false;
  const int code = sqlite3_step(stmt_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) db_.note(code, sqlite3_sql(stmt_));
  return false;
}

int64_t Query::integer(int column) const { return sqlite3_column_int64(stmt_, column); }
double Query::real(int column) const { return sqlite3_column_double(stmt_, column); }

std::string_view Query::text(int column) const {
  const auto* p = reinterpret_cast<const char*>(sqlite3_column_text(stmt_, column));
  return p ? std::string_view(p, sqlite3_column_bytes(stmt_, column)) : std::string_view();
}

std::span<const std::byte> Query::blob(int column) const {
  const auto* p = static_cast<const std::byte*>(sqlite3_column_blob(stmt_, column));
  return {p, p ? static_cast<size_t>(sqlite3_column_bytes(stmt_, column)) : 0};
}

// Ids are stored most significant byte first, so that SQL's hex() shows a file's name.
KvId Query::id(int column) const {
  const auto bytes = blob(column);
  if (bytes.size() != 16) return {};
  KvId id;
  for (size_t i = 0; i < 8; i++) {
    id.high = id.high << 8 | static_cast<uint64_t>(bytes[i]);
    id.low = id.low << 8 | static_cast<uint64_t>(bytes[i + 8]);
  }
  return id;
}

void Query::put(int64_t v) { sqlite3_bind_int64(stmt_, ++n_bound_, v); }
void Query::put(double v) { sqlite3_bind_double(stmt_, ++n_bound_, v); }

void Query::put(std::string_view v) {
  sqlite3_bind_text64(stmt_, ++n_bound_, v.data() ? v.data() : "", v.size(), SQLITE_TRANSIENT,
                      SQLITE_UTF8);
}

void Query::put(std::span<const std::byte> v) {
  sqlite3_bind_blob64(stmt_, ++n_bound_, v.data() ? v.data() : std::as_bytes(std::span("")).data(),
                      v.size(), SQLITE_TRANSIENT);
}

void Query::put(const KvId& v) {
  std::array<std::byte, 16> bytes;
  for (size_t i = 0; i < 8; i++) {
    bytes[i] = static_cast<std::byte>(v.high >> (56 - 8 * i));
    bytes[i + 8] = static_cast<std::byte>(v.low >> (56 - 8 * i));
  }
  put(std::span<const std::byte>(bytes));
}

// Fails when SQLite has rolled back by itself, which is fine.
Transaction::~Transaction() {
  if (!done_) sqlite3_exec(db_.db_, "ROLLBACK", nullptr, nullptr, nullptr);
}

Status Transaction::commit() {
  db_.exec("COMMIT");
  NW_TRY(db_.take_fault());
  done_ = true;
  return ok_status();
}

}  // namespace narwhal
