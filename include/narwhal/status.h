// Status and Result: how a fault of the user or of the data travels.
//
// A message says what was found, what was expected and what to do about it, in one line:
//   return bad_input("model.gguf: version 2, expected 3; convert the file again");
//
// Programmer faults abort instead (base/check.h). Nothing here throws.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

namespace narwhal {

// The values are the exit codes of the command line.
enum class Code : int {
  kOk = 0,
  kFailed = 1,      // failed while running
  kUsage = 2,       // bad option or argument
  kBadInput = 3,    // bad input file or text
  kNoMemory = 4,    // does not fit in memory
  kCancelled = 130  // stopped by Ctrl+C or by the caller
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same fault seen from one level up: "where: message".
  Status within(const std::string& where) const {
    return ok() ? *this : Status(code_, where + ": " + message_);
  }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

inline Status ok_status() { return {}; }
inline Status failed(std::string m) { return {Code::kFailed, std::move(m)}; }
inline Status usage(std::string m) { return {Code::kUsage, std::move(m)}; }
inline Status bad_input(std::string m) { return {Code::kBadInput, std::move(m)}; }
inline Status no_memory(std::string m) { return {Code::kNoMemory, std::move(m)}; }
inline Status cancelled() { return {Code::kCancelled, "stopped"}; }

// A value or the Status that explains its absence. Reading the value of a failed Result aborts.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    if (status_.ok()) std::abort();
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  T& operator*() & { return get(); }
  const T& operator*() const& { return const_cast<Result*>(this)->get(); }
  T&& operator*() && { return std::move(get()); }
  T* operator->() { return &get(); }
  const T* operator->() const { return &const_cast<Result*>(this)->get(); }

 private:
  T& get() {
    if (!value_) std::abort();
    return *value_;
  }
  Status status_;
  std::optional<T> value_;
};

// NW_TRY(expr): return the Status of `expr` from the current function unless it is ok.
// NW_ASSIGN(T x, expr): the same for a Result, binding its value.
#define NW_TRY(expr)                                                             \
  do {                                                                           \
    if (::narwhal::Status nw_status = (expr); !nw_status.ok()) return nw_status; \
  } while (0)
#define NW_CONCAT_(a, b) a##b
#define NW_CONCAT(a, b) NW_CONCAT_(a, b)
#define NW_ASSIGN(lhs, expr) NW_ASSIGN_(NW_CONCAT(nw_result_, __LINE__), lhs, expr)
#define NW_ASSIGN_(tmp, lhs, expr)    \
  auto tmp = (expr);                  \
  if (!tmp.ok()) return tmp.status(); \
  lhs = *std::move(tmp)

}  // namespace narwhal
