#include "base/json.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_map>

namespace narwhal {
namespace {

constexpr size_t kMaxDepth = 512;

int hex4(std::string_view s, size_t i) {
  int v = 0;
  for (size_t k = i; k < i + 4; k++) {
    if (k >= s.size()) return -1;
    const char c = s[k];
    const int d = c >= '0' && c <= '9'                 ? c - '0'
                  : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                       : -1;
    if (d < 0) return -1;
    v = v * 16 + d;
  }
  return v;
}

// Replaces escaped surrogates that have no partner; the parser would refuse the whole text. Same
// length.
std::string mend_surrogates(std::string_view in) {
  std::string s(in);
  for (size_t i = 0; i + 1 < s.size(); i++) {
    if (s[i] != '\\') continue;
    if (s[i + 1] != 'u') {
      i++;
      continue;
    }
    const int u = hex4(s, i + 2);
    if (u >= 0xD800 && u < 0xDC00 && i + 7 < s.size() && s[i + 6] == '\\' && s[i + 7] == 'u') {
      const int low = hex4(s, i + 8);
      if (low >= 0xDC00 && low < 0xE000) {
        i += 11;
        continue;
      }
    }
    if (u >= 0xD800 && u < 0xE000) s.replace(i + 2, 4, "FFFD");
    i += 5;
  }
  return s;
}

// Builds the tree from the parser's events, which carry the raw text of floating numbers.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Json root;
  std::string error;

  bool null() override { return add({}); }
  bool boolean(bool v) override { return add(Json::of(v)); }
  bool number_integer(number_integer_t v) override {
    return add(Json::of(static_cast<int64_t>(v)));
  }
  bool number_unsigned(number_unsigned_t v) override { return number(fmt::to_string(v)); }
  bool number_float(number_float_t, const string_t& lexeme) override { return number(lexeme); }
  bool string(string_t& v) override { return add(Json::of(std::move(v))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& v) override {
    keys_.back() = std::move(v);
    return true;
  }
  bool parse_error(size_t at, const std::string&, const nlohmann::detail::exception&) override {
    error = fmt::format("invalid JSON at byte {}", at);
    return false;
  }

 private:
  bool number(std::string lexeme) {
    Json j;
    j.kind = Json::Kind::kNumber;
    j.text = std::move(lexeme);
    return add(std::move(j));
  }
  bool add(Json value) {
    if (stack_.empty()) {
      root = std::move(value);
    } else if (stack_.back().is_array()) {
      stack_.back().items.push_back(std::move(value));
    } else {
      set_member(std::move(value));
    }
    return true;
  }
  // As Json::set, but indexed: a checkpoint's header has tens of thousands of members.
  void set_member(Json value) {
    auto& members = stack_.back().members;
    const auto [it, added] = places_.back().emplace(keys_.back(), members.size());
    if (added)
      members.emplace_back(keys_.back(), std::move(value));
    else
      members[it->second].second = std::move(value);
  }
  bool open(Json value) {
    if (stack_.size() >= kMaxDepth) {
      error = fmt::format("JSON nested deeper than {}", kMaxDepth);
      return false;
    }
    stack_.push_back(std::move(value));
    keys_.emplace_back();
    places_.emplace_back();
    return true;
  }
  bool close() {
    Json done = std::move(stack_.back());
    stack_.pop_back();
    keys_.pop_back();
    places_.pop_back();
    return add(std::move(done));
  }
  std::vector<Json> stack_;
  std::vector<std::string> keys_;
  std::vector<std::unordered_map<std::string, size_t>> places_;  // of each open object's members
};

void dump_to(const Json& j, std::string& out) {
  switch (j.kind) {
    case Json::Kind::kNull:
      out += "null";
      break;
    case Json::Kind::kBool:
      out += j.boolean ? "true" : "false";
      break;
    case Json::Kind::kNumber:
      out += j.text;
      break;
    case Json::Kind::kString:
      out += json_quote(j.text);
      break;
    case Json::Kind::kArray:
      out += '[';
      for (size_t i = 0; i < j.items.size(); i++) {
        if (i) out += ", ";
        dump_to(j.items[i], out);
      }
      out += ']';
      break;
    case Json::Kind::kObject:
      out += '{';
      for (size_t i = 0; i < j.members.size(); i++) {
        if (i) out += ", ";
        out += json_quote(j.members[i].first) + ": ";
        dump_to(j.members[i].second, out);
      }
      out += '}';
      break;
  }
}

}  // namespace

Json::Json() = default;
Json::Json(const Json&) = default;
Json::Json(Json&&) noexcept = default;
Json& Json::operator=(const Json&) = default;
Json& Json::operator=(Json&&) noexcept = default;
Json::~Json() = default;

Result<Json> Json::parse(std::string_view text) {
  // The library takes a NUL for the end of the text.
  if (text.find('\0') != text.npos) return bad_input("invalid JSON: a NUL character");
  Builder builder;
  const std::string mended = mend_surrogates(text);
  if (!nlohmann::json::sax_parse(mended, &builder))
    return bad_input(builder.error.empty() ? "invalid JSON" : builder.error);
  return std::move(builder.root);
}

Json Json::of(std::string s) {
  Json j = with(Kind::kString);
  j.text = std::move(s);
  return j;
}

Json Json::of(int64_t v) {
  Json j = with(Kind::kNumber);
  j.text = fmt::to_string(v);
  return j;
}

Json Json::of(double v) {
  if (!std::isfinite(v)) return {};
  Json j = with(Kind::kNumber);
  j.text = fmt::format("{}", v);
  return j;
}

Json Json::of(bool v) {
  Json j = with(Kind::kBool);
  j.boolean = v;
  return j;
}

const Json* Json::find(std::string_view name) const {
  for (const auto& [key, value] : members)
    if (key == name) return &value;
  return nullptr;
}

const Json& Json::operator[](std::string_view name) const {
  static const Json kNullValue;
  const Json* j = find(name);
  return j ? *j : kNullValue;
}

Json& Json::set(std::string_view name, Json value) {
  kind = Kind::kObject;
  for (auto& [key, old] : members) {
    if (key != name) continue;
    old = std::move(value);
    return *this;
  }
  members.emplace_back(name, std::move(value));
  return *this;
}

Json& Json::push(Json value) {
  kind = Kind::kArray;
  items.push_back(std::move(value));
  return *this;
}

int64_t Json::as_int(int64_t fallback) const {
  if (!is_number()) return fallback;
  int64_t v = 0;
  const char* end = text.data() + text.size();
  if (const auto r = std::from_chars(text.data(), end, v); r.ec == std::errc() && r.ptr == end)
    return v;
  const double d = as_double(std::nan(""));
  return d >= -0x1p62 && d <= 0x1p62 && d == std::floor(d) ? static_cast<int64_t>(d) : fallback;
}

double Json::as_double(double fallback) const {
  if (!is_number()) return fallback;
  char* end = nullptr;
  const double v = std::strtod(text.c_str(), &end);
  return end == text.c_str() + text.size() ? v : fallback;
}

std::string Json::dump() const {
  std::string out;
  dump_to(*this, out);
  return out;
}

std::string json_quote(std::string_view s) {
  std::string out = "\"";
  for (const char c : s) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        else
          out += c;
    }
  }
  return out + '"';
}

}  // namespace narwhal
