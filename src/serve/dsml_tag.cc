#include "serve/dsml_tag.h"

#include <algorithm>
#include <array>
#include <utility>

namespace narwhal::serve {
namespace {

constexpr size_t kMaxHeader = 512;
constexpr std::pair<std::string_view, Tag::Word> kWords[] = {
    {"tool_calls", Tag::kBlock},     {"toolcalls", Tag::kBlock}, {"tool_call", Tag::kBlock},
    {"function_calls", Tag::kBlock}, {"invoke", Tag::kInvoke},   {"parameter", Tag::kParameter},
};

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

// Up to two bars, of either kind.
void skip_bars(std::string_view s, size_t& at) {
  for (int k = 0; k < 2; k++) {
    if (s.substr(at).starts_with("｜"))
      at += std::string_view("｜").size();
    else if (s.substr(at).starts_with('|'))
      at++;
  }
}

// "DSML" with or without bars, the control, or nothing at all.
Fit match_marker(std::string_view s, size_t& at, bool& real) {
  if (at < s.size() && s[at] == kDsmlByte) {
    real = true;
    at++;
    return Fit::kYes;
  }
  const size_t start = at;
  skip_bars(s, at);
  const std::string_view rest = s.substr(at);
  if (rest.empty()) return Fit::kMaybe;
  if (rest.starts_with("DSML")) {
    at += 4;
    skip_bars(s, at);
    return Fit::kYes;
  }
  if (std::string_view("DSML").starts_with(rest)) return Fit::kMaybe;
  return at == start ? Fit::kYes : Fit::kNo;  // bars need the name between them
}

// A quotation mark at s[at]: its length, 0 if there is none.
size_t quote_size(std::string_view s, size_t at, bool& curly) {
  curly = false;
  const std::string_view rest = s.substr(std::min(at, s.size()));
  if (rest.starts_with('"') || rest.starts_with('\'')) return 1;
  for (std::string_view q : {"“", "”", "‘", "’"}) {
    curly = true;
    if (rest.starts_with(q)) return q.size();
  }
  return 0;
}

// The value of an attribute at s[at]. It ends with a quotation mark that a blank or the end of the
// tag follows, so names may contain quotation marks.
Fit match_value(std::string_view s, size_t& at, std::string& value) {
  bool curly = false;
  const size_t n_open = quote_size(s, at, curly);
  if (n_open == 0) {
    const size_t end = s.find_first_of(" \t\r\n>", at);
    if (end == s.npos) return Fit::kMaybe;
    value = s.substr(at, end - at);
    at = end;
    return Fit::kYes;
  }
  const char open = s[at];
  for (size_t i = at + n_open; i < s.size(); i++) {
    bool closes_curly = false;
    const size_t n = quote_size(s, i, closes_curly);
    if (n == 0 || (!curly && s[i] != open)) continue;
    if (i + n >= s.size()) return Fit::kMaybe;
    if (!is_blank(s[i + n]) && s[i + n] != '>') continue;
    value = s.substr(at + n_open, i - at - n_open);
    at = i + n;
    return Fit::kYes;
  }
  return Fit::kMaybe;
}

}  // namespace

Tag match_tag(std::string_view s) {
  Tag tag;
  if (s.empty() || s[0] != '<') return tag;
  size_t at = 1;
  if (at < s.size() && s[at] == '/') tag.close = true, at++;
  const auto maybe = [&] {
    tag.fit = Fit::kMaybe;
    return tag;
  };
  if (at == s.size()) return maybe();
  const size_t before = at;
  const Fit marker = match_marker(s, at, tag.real);
  if (marker == Fit::kMaybe) return maybe();
  if (marker == Fit::kNo) return tag;
  while (at > before && at < s.size() && s[at] == ' ') at++;
  const size_t word = at;
  while (at < s.size() && ((s[at] >= 'a' && s[at] <= 'z') || s[at] == '_')) at++;
  const std::string_view read = s.substr(word, at - word);
  for (const auto& [name, kind] : kWords) {
    if (at == s.size() ? name.starts_with(read) : name == read) {
      tag.fit = at == s.size() ? Fit::kMaybe : Fit::kYes;
      tag.word = kind;
      tag.end = at;
      return tag;
    }
  }
  return tag;
}

Tag match_plain_tag(std::string_view s) {
  Tag tag = match_tag(s);
  if (tag.fit != Fit::kYes) return tag;
  size_t at = tag.end;
  while (at < s.size() && is_blank(s[at]) && at - tag.end < 8) at++;
  tag.end = at + 1;
  tag.fit = at == s.size() ? Fit::kMaybe : s[at] == '>' ? Fit::kYes : Fit::kNo;
  return tag;
}

Header match_header(std::string_view s, size_t at) {
  Header h;
  const size_t start = at;
  const auto result = [&](Fit fit) {
    h.fit = fit == Fit::kMaybe && s.size() - start > kMaxHeader ? Fit::kNo : fit;
    return h;
  };
  for (;;) {
    while (at < s.size() && is_blank(s[at])) at++;
    if (at == s.size()) return result(Fit::kMaybe);
    if (s[at] == '>') {
      h.end = at + 1;
      return result(h.name.empty() ? Fit::kNo : Fit::kYes);
    }
    const size_t word = at;
    while (at < s.size() && s[at] >= 'a' && s[at] <= 'z') at++;
    const std::string_view attribute = s.substr(word, at - word);
    while (at < s.size() && s[at] == ' ') at++;
    if (at == s.size()) return result(Fit::kMaybe);
    if (s[at] != '=' || attribute.empty()) return result(Fit::kNo);
    at++;
    while (at < s.size() && s[at] == ' ') at++;
    if (at == s.size()) return result(Fit::kMaybe);
    std::string value;
    const Fit fit = match_value(s, at, value);
    if (fit != Fit::kYes) return result(fit);
    if (attribute == "name") h.name = value;
    if (attribute == "string" && (value == "true" || value == "false"))
      h.is_string = value == "true";
  }
}

size_t n_blanks(std::string_view s) { return std::min(s.find_first_not_of(" \t\r\n"), s.size()); }

Fit fit_closers(std::string_view s) {
  for (;;) {
    s.remove_prefix(n_blanks(s));
    if (s.empty()) return Fit::kMaybe;
    const Tag tag = match_plain_tag(s);
    if (tag.fit != Fit::kYes) return tag.fit;
    if (!tag.close) return Fit::kNo;
    // The value's own closer comes after all, so what was spelled out before is text.
    if (tag.real) return tag.word == Tag::kParameter ? Fit::kNo : Fit::kYes;
    s.remove_prefix(tag.end);
  }
}

}  // namespace narwhal::serve
