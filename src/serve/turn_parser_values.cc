// The values of a call's parameters: where they end, and how they become JSON.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "serve/turn_parser.h"

namespace narwhal::serve {
namespace {

constexpr size_t kMaxTail = 256;  // bytes of closers that may end a value
constexpr size_t kMaxValue = 32 << 20;
constexpr std::string_view kHiddenCloser = "&lt;/｜DSML｜parameter>";
constexpr std::string_view kHiddenCloserReal = "&lt;/\xFFparameter>";
constexpr std::string_view kCloser = "</｜DSML｜parameter>";

Fit fit(std::string_view s, std::string_view whole) {
  if (s.starts_with(whole)) return Fit::kYes;
  return whole.starts_with(s) ? Fit::kMaybe : Fit::kNo;
}

// The inside of a JSON string.
std::string escaped(std::string_view text) {
  const std::string quoted = json_quote(text);
  return quoted.substr(1, quoted.size() - 2);
}

}  // namespace

void TurnParser::begin_value(const Header& header, OutputEvents& events) {
  const std::string key = plain(header.name);
  types_ = tools_->types(tool_, key);
  skip_value_ = !keys_.insert(key).second;
  const bool may_be_string = types_ == kAnyType || (types_ & kStringType);
  const bool is_string = header.is_string.value_or(types_ & kStringType) && may_be_string;
  quoted_json_ = header.is_string.value_or(true);
  scan_ = json_seen_ = 0;
  newline_ = json_string_ = json_escape_ = false;
  state_ = is_string ? kString : kJson;
  if (skip_value_) {
    notes_.push_back(fmt::format("parameter {} was given twice", key));
    return;
  }
  arguments(fmt::format("{}{}: {}", keys_.size() == 1 ? "{" : ", ", json_quote(key),
                        is_string ? "\"" : ""),
            events);
}

// Whether the value ends with what stands at buffer_[at], which is '<'.
TurnParser::ValueEnd TurnParser::value_end_at(size_t at) const {
  const std::string_view rest = std::string_view(buffer_).substr(at);
  const Tag tag = match_tag(rest);
  if (tag.fit == Fit::kNo) return {Fit::kNo, 0, 0};
  if (tag.fit == Fit::kMaybe) return {rest.size() > kMaxTail ? Fit::kNo : Fit::kMaybe, 0, 0};
  const bool is_own_closer = tag.close && tag.word == Tag::kParameter;
  if (tag.real && !is_own_closer)
    return {tag.close || tag.word != Tag::kBlock ? Fit::kYes : Fit::kNo, at, at};
  if (!is_own_closer) return {Fit::kNo, 0, 0};
  const Tag whole = match_plain_tag(rest);
  if (whole.fit != Fit::kYes || tag.real || !real_) return {whole.fit, at, at + whole.end};
  // Spelled out in a block made with the control: text, unless only closers follow.
  const Fit closers = fit_closers(rest.substr(whole.end));
  if (closers == Fit::kMaybe && rest.size() > kMaxTail) return {Fit::kNo, 0, 0};
  return {closers, at, at + whole.end};
}

void TurnParser::value_out(std::string_view text, OutputEvents& events) {
  if (text.empty() || skip_value_) return;
  std::string out = newline_ ? "\\n" : "";
  newline_ = text.ends_with('\n');  // held: it belongs to the layout if the closer is missing
  if (newline_) text.remove_suffix(1);
  out += escaped(plain(text));
  arguments(out, events);
}

void TurnParser::end_string(bool drop_newline, OutputEvents& events) {
  if (!skip_value_) arguments(newline_ && !drop_newline ? "\\n\"" : "\"", events);
  newline_ = false;
  state_ = kInvoke;
}

bool TurnParser::step_string(OutputEvents& events) {
  const size_t at = std::min(buffer_.find_first_of("<&"), buffer_.size());
  if (at > 0) {
    value_out(std::string_view(buffer_).substr(0, at), events);
    buffer_.erase(0, at);
    return true;
  }
  if (buffer_.empty()) return false;
  if (arguments_.size() > kMaxValue) {
    notes_.push_back("a value above 32 MiB");
    runaway_ = true;
    state_ = kDone;
    return true;
  }
  if (buffer_[0] == '&') {
    for (std::string_view hidden : {kHiddenCloser, kHiddenCloserReal}) {
      const Fit f = fit(buffer_, hidden);
      if (f == Fit::kMaybe) return false;
      if (f == Fit::kNo) continue;
      value_out(kCloser, events);
      buffer_.erase(0, hidden.size());
      return true;
    }
  } else {
    const ValueEnd end = value_end_at(0);
    if (end.fit == Fit::kMaybe) return false;
    if (end.fit == Fit::kYes) {
      end_string(/*drop_newline=*/end.next == 0, events);
      buffer_.erase(0, end.next);
      n_structural_ = 0;
      return true;
    }
  }
  value_out(std::string_view(buffer_).substr(0, 1), events);
  buffer_.erase(0, 1);
  return true;
}

bool TurnParser::step_json(OutputEvents& events) {
  for (; json_seen_ < buffer_.size(); json_seen_++) {
    const char c = buffer_[json_seen_];
    if (json_escape_)
      json_escape_ = false;
    else if (json_string_ && c == '\\')
      json_escape_ = true;
    else if (c == '"')
      json_string_ = !json_string_;
  }
  for (;;) {
    scan_ = std::min(buffer_.find('<', scan_), buffer_.size());
    if (scan_ > kMaxValue) {
      notes_.push_back("a value above 32 MiB");
      runaway_ = true;
      state_ = kDone;
      return true;
    }
    if (scan_ == buffer_.size()) return false;
    const ValueEnd end = value_end_at(scan_);
    if (end.fit == Fit::kMaybe) return false;
    if (end.fit == Fit::kNo) {
      scan_++;
      continue;
    }
    end_json(std::string_view(buffer_).substr(0, end.end), events);
    buffer_.erase(0, end.next);
    scan_ = 0;
    n_structural_ = 0;
    return true;
  }
}

void TurnParser::end_json(std::string_view value, OutputEvents& events) {
  state_ = kInvoke;
  if (skip_value_) return;
  const std::string text = plain(value);
  // Inside brackets, as it will stand inside an object: nesting is limited.
  const auto parsed = Json::parse(fmt::format("[{}]", text));
  bool is_json = parsed.ok() && parsed->items.size() == 1;
  // A value said to be a string is taken for JSON only where the schema wants it so.
  if (is_json && quoted_json_ && types_ != kAnyType)
    is_json = (json_type(parsed->items[0]) & types_) != 0;
  if (!is_json) notes_.push_back("a value that is no JSON was quoted");
  arguments(is_json ? text : json_quote(text), events);
}

}  // namespace narwhal::serve
