// JSON as the prompt needs it: member order and the text of every number survive, and dump() writes
// what Python's json.dumps(x, ensure_ascii=False) would. (A parser library does the parsing.)
//
//   NW_ASSIGN(Json j, Json::parse(R"({"b": 1.0, "a": [true]})"));
//   j.dump()        // {"b": 1.0, "a": [true]}
//   j["b"].text     // "1.0"
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "narwhal/status.h"

namespace narwhal {

struct Json {
  enum class Kind : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  bool boolean = false;
  std::string text;  // kString: the characters; kNumber: its lexeme
  std::vector<Json> items;
  std::vector<std::pair<std::string, Json>>
      members;  // a repeated name keeps its first place, last value

  // Defined in json.cc: clang with libstdc++ cannot derive them here, where members' pair of Json
  // is still incomplete.
  Json();
  Json(const Json&);
  Json(Json&&) noexcept;
  Json& operator=(const Json&);
  Json& operator=(Json&&) noexcept;
  ~Json();

  // kBadInput naming the byte offset. Nesting is limited to 512; lone surrogates become U+FFFD.
  static Result<Json> parse(std::string_view text);

  static Json of(std::string s);
  static Json of(const char* s) { return of(std::string(s)); }
  static Json of(int64_t v);
  static Json of(double v);  // shortest text that reads back equal; NaN and infinities become null
  static Json of(bool v);
  static Json array() { return with(Kind::kArray); }
  static Json object() { return with(Kind::kObject); }

  bool is_null() const { return kind == Kind::kNull; }
  bool is_string() const { return kind == Kind::kString; }
  bool is_number() const { return kind == Kind::kNumber; }
  bool is_bool() const { return kind == Kind::kBool; }
  bool is_array() const { return kind == Kind::kArray; }
  bool is_object() const { return kind == Kind::kObject; }

  // The member, or null (shared, read-only) when absent or when this is not an object.
  const Json& operator[](std::string_view name) const;
  const Json* find(std::string_view name) const;
  // Sets or replaces a member; turns a null into an object.
  Json& set(std::string_view name, Json value);
  Json& push(Json value);

  // Numeric value; `fallback` when this is no number or does not fit.
  int64_t as_int(int64_t fallback = 0) const;
  double as_double(double fallback = 0) const;
  bool as_bool(bool fallback = false) const { return is_bool() ? boolean : fallback; }

  // Python style: separators ", " and ": ", non-ASCII raw.
  std::string dump() const;

 private:
  static Json with(Kind k) {
    Json j;
    j.kind = k;
    return j;
  }
};

// `s` in double quotes with JSON escapes; well-formed UTF-8 in, well-formed UTF-8 out.
std::string json_quote(std::string_view s);

}  // namespace narwhal
