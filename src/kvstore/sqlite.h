// A thin coat over SQLite: a connection that keeps its statements prepared, and queries.
//
//   Query q(db, "SELECT n FROM t WHERE id = ?");
//   q.bind(7);
//   while (q.next()) sum += q.integer(0);
//   NW_TRY(db.take_fault());                       // of any query since the last call
//
// A query that fails yields no rows and leaves its fault in the connection; until it is taken,
// further queries do nothing, so that a transaction is all or nothing. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "kvstore/kv_id.h"
#include "narwhal/status.h"

struct sqlite3;
struct sqlite3_stmt;

namespace narwhal {

class Database {
 public:
  Database() = default;
  Database(Database&& other) noexcept { *this = std::move(other); }
  Database& operator=(Database&& other) noexcept;
  ~Database();

  // ":memory:" for one that is gone with the connection.
  static Result<Database> open(const std::string& path, int busy_ms);

  void exec(const char* sql);
  Status take_fault();
  bool has_fault() const { return !fault_.ok(); }
  // Whether the file is not what SQLite wrote. Stays true.
  bool damaged() const { return damaged_; }

 private:
  friend class Query;
  friend class Transaction;
  void note(int code, const char* what);

  sqlite3* db_ = nullptr;
  std::unordered_map<const char*, sqlite3_stmt*> statements_;  // by the address of the literal
  Status fault_;
  bool damaged_ = false;
};

class Query {
 public:
  Query(Database& db, const char* sql);  // sql: a string literal
  ~Query();
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  // Values for ?, in order. Text and blobs are copied.
  template <class... T>
  Query& bind(const T&... values) {
    (put(values), ...);
    return *this;
  }

  bool next();
  void run() {
    while (next()) {
    }
  }

  // Of the current row.
  int64_t integer(int column) const;
  double real(int column) const;
  std::string_view text(int column) const;
  std::span<const std::byte> blob(int column) const;
  KvId id(int column) const;

 private:
  void put(int64_t v);
  void put(int v) { put(static_cast<int64_t>(v)); }
  void put(uint64_t v) { put(static_cast<int64_t>(v)); }  // as the same 64 bits
  void put(double v);
  void put(std::string_view v);
  void put(std::span<const std::byte> v);
  void put(const KvId& v);

  Database& db_;
  sqlite3_stmt* stmt_ = nullptr;
  int n_bound_ = 0;
};

// BEGIN IMMEDIATE ... COMMIT; rolled back where a query failed or commit() was not reached.
class Transaction {
 public:
  explicit Transaction(Database& db) : db_(db) { db_.exec("BEGIN IMMEDIATE"); }
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  Status commit();

 private:
  Database& db_;
  bool done_ = false;
};

}  // namespace narwhal
