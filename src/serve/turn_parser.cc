#include "serve/turn_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/json.h"

namespace narwhal::serve {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";
constexpr size_t kMaxOpener = 512;   // bytes held to see whether a block begins
constexpr size_t kMaxGarbage = 256;  // bytes skipped between tags
constexpr size_t kMaxTail = 256;     // bytes of closers that may end a value
constexpr size_t kMaxValue = 32 << 20;
constexpr int kMaxStructural = 256;  // tokens without a tag
constexpr int kMaxCalls = 128, kMaxEqualCalls = 4;
constexpr std::string_view kHiddenCloser = "&lt;/｜DSML｜parameter>";
constexpr std::string_view kHiddenCloserReal = "&lt;/\xFFparameter>";
constexpr std::string_view kCloser = "</｜DSML｜parameter>";

size_t n_blanks(std::string_view s) { return std::min(s.find_first_not_of(kBlanks), s.size()); }

Fit fit(std::string_view s, std::string_view whole) {
  if (s.starts_with(whole)) return Fit::kYes;
  return whole.starts_with(s) ? Fit::kMaybe : Fit::kNo;
}

void add(OutputEvents& events, OutputEvent::Kind kind, std::string_view text) {
  const bool joins = kind != OutputEvent::kCallStart && kind != OutputEvent::kCallEnd &&
                     !events.empty() && events.back().kind == kind;
  if (joins)
    events.back().text += text;
  else
    events.push_back({kind, std::string(text)});
}

// The inside of a JSON string.
std::string escaped(std::string_view text) {
  const std::string quoted = json_quote(text);
  return quoted.substr(1, quoted.size() - 2);
}

// Closers of any spelling and blanks, nothing else, up to the end or to one made with the control.
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

}  // namespace

TurnParser::TurnParser(const text::Tokenizer& tokenizer, const text::Controls& controls,
                       Options options)
    : tokenizer_(tokenizer),
      controls_(controls),
      tools_(options.tools && !options.tools->empty() ? options.tools : nullptr),
      state_(options.in_reasoning ? kReason : kContent) {}

void TurnParser::push(int32_t id, OutputEvents& events) {
  if (done() || finished_) return;
  n_structural_ = structural() ? n_structural_ + 1 : 0;
  if (!tokenizer_.is_control(id)) {
    buffer_ += utf8_.push(tokenizer_.bytes(id));
  } else {
    buffer_ += utf8_.finish();
    if (controls_.ends_turn(id)) {
      run(events);
      finish(false, events);
      state_ = kDone;
      return;
    }
    if (id == controls_.end_think.id && state_ == kReason) {
      run(events);
      text_out(std::exchange(buffer_, {}), events);
      if (!blanks_.empty()) add(events, OutputEvent::kReasoning, std::exchange(blanks_, {}));
      state_ = kContent;
      line_start_ = true;
      in_fence_ = false;
      line_head_.clear();
      return;
    }
    if (id == controls_.dsml.id) buffer_ += kDsmlByte;
  }
  run(events);
  if (n_structural_ > kMaxStructural && !done()) bad("no tag within 256 tokens", events);
}

void TurnParser::run(OutputEvents& events) {
  for (bool more = true; more && !done();) {
    switch (state_) {
      case kReason:
      case kContent:
        more = step_text(events);
        break;
      case kBlock:
      case kInvoke:
        more = step_tags(events);
        break;
      case kString:
        more = step_string(events);
        break;
      case kJson:
        more = step_json(events);
        break;
      case kDone:
        break;
    }
  }
}

bool TurnParser::structural() const {
  switch (state_) {
    case kContent:
      return tools_ && buffer_.starts_with("<\xFF");
    case kBlock:
    case kInvoke:
      return true;
    case kString:
      return buffer_.find(kDsmlByte, std::min(scan_, buffer_.size())) != buffer_.npos;
    case kJson:
      return !quoted_json_ && !json_string_;
    default:
      return false;
  }
}

void TurnParser::consume(size_t n) {
  if (n_calls_ == 0 && tool_.empty()) raw_ += buffer_.substr(0, n);
  buffer_.erase(0, n);
  scan_ = 0;
}

std::string TurnParser::plain(std::string_view s) const {
  std::string out;
  for (char c : s) {
    if (c == kDsmlByte)
      out += controls_.dsml.name;
    else
      out += c;
  }
  return out;
}

// ---- text

void TurnParser::text_out(std::string_view text, OutputEvents& events) {
  if (text.empty()) return;
  for (char c : text) {
    if (c == '\n') {
      line_start_ = true;
      line_head_.clear();
      continue;
    }
    if (c != ' ' && c != '\t' && c != '\r') line_start_ = false;
    if (line_head_.size() >= 3 || (line_head_.empty() && c == ' ')) continue;
    line_head_ += c;
    if (line_head_ == "```" || line_head_ == "~~~") in_fence_ = !in_fence_;
  }
  const auto kind = state_ == kReason ? OutputEvent::kReasoning : OutputEvent::kContent;
  const size_t n = text.find_last_not_of(kBlanks) + 1;  // npos + 1 == 0
  if (n > 0) add(events, kind, plain(std::exchange(blanks_, {}) += text.substr(0, n)));
  blanks_ += text.substr(n);
}

bool TurnParser::step_text(OutputEvents& events) {
  const size_t tag = std::min(buffer_.find('<'), buffer_.size());
  if (tag > 0) {
    text_out(std::string_view(buffer_).substr(0, tag), events);
    buffer_.erase(0, tag);
    return true;
  }
  if (buffer_.empty()) return false;
  const auto is_text = [&] {
    text_out("<", events);
    buffer_.erase(0, 1);
    return true;
  };
  if (!tools_ || buffer_.size() > kMaxOpener) return is_text();
  size_t end = 0;
  bool is_real = false;
  switch (fit_opener(end, is_real)) {
    case Fit::kYes:
      open_block(end, is_real, events);
      return true;
    case Fit::kMaybe:
      return false;
    case Fit::kNo:
      break;
  }
  // A closer without its opener is dropped when it is made with the control.
  const Tag closer = match_plain_tag(buffer_);
  if (!closer.close || !closer.real || closer.fit == Fit::kNo) return is_text();
  if (closer.fit == Fit::kMaybe) return false;
  buffer_.erase(0, closer.end);
  return true;
}

// Whether a call block begins the buffer; `end`: after its opener (0 for a bare invoke).
Fit TurnParser::fit_opener(size_t& end, bool& is_real) const {
  const Tag tag = match_tag(buffer_);
  if (tag.fit == Fit::kNo || tag.close) return Fit::kNo;
  const bool control_seen = buffer_.size() > 1 && buffer_[1] == kDsmlByte;
  const bool plain_text_here = state_ == kReason || in_fence_ || !line_start_;
  // Only the control opens a block in the middle of a line, and in reasoning only at its start.
  if (buffer_.size() > 1 && plain_text_here &&
      !(control_seen && (state_ == kContent || line_start_)))
    return Fit::kNo;
  if (tag.fit == Fit::kMaybe) return Fit::kMaybe;
  is_real = tag.real;
  if (tag.word == Tag::kInvoke) {
    end = 0;
    return line_start_ ? fit_declared_invoke(buffer_) : Fit::kNo;
  }
  if (tag.word != Tag::kBlock) return Fit::kNo;
  const Tag whole = match_plain_tag(buffer_);
  end = whole.end;
  if (whole.fit != Fit::kYes || (tag.real && state_ == kContent)) return whole.fit;
  return fit_declared_invoke(std::string_view(buffer_).substr(end));
}

Fit TurnParser::fit_declared_invoke(std::string_view s) const {
  s.remove_prefix(n_blanks(s));
  if (s.empty()) return Fit::kMaybe;
  const Tag tag = match_tag(s);
  if (tag.fit != Fit::kYes) return tag.close ? Fit::kNo : tag.fit;
  if (tag.close || tag.word != Tag::kInvoke) return Fit::kNo;
  const Header header = match_header(s, tag.end);
  if (header.fit != Fit::kYes) return header.fit;
  return tools_->has(header.name) ? Fit::kYes : Fit::kNo;
}

// ---- tags

void TurnParser::open_block(size_t n_opener, bool is_real, OutputEvents&) {
  if (state_ == kReason) notes_.push_back("a call began before the reasoning was closed");
  if (!is_real) notes_.push_back("a call block was misspelled");
  real_ = is_real;
  wrapped_ = n_opener > 0;
  raw_ = std::exchange(blanks_, {});
  state_ = kBlock;
  consume(n_opener);
  n_structural_ = 0;
}

// One tag between values. Every spelling is accepted here, where only tags can stand.
bool TurnParser::step_tags(OutputEvents& events) {
  if (const size_t n = n_blanks(buffer_)) {
    consume(n);
    return true;
  }
  if (buffer_.empty()) return false;
  const auto garbage = [&] {
    if (state_ == kBlock && !wrapped_ && n_calls_ > 0) {
      state_ = kDone;  // text after calls without a wrapper
      return true;
    }
    consume(1);
    if (++n_garbage_ > kMaxGarbage) bad("no tag where one was expected", events);
    return true;
  };
  const Tag tag = match_tag(buffer_);
  if (tag.fit == Fit::kMaybe) return false;
  if (tag.fit == Fit::kNo) return garbage();
  if (!tag.close && tag.word != Tag::kBlock) {
    const Header header = match_header(buffer_, tag.end);
    if (header.fit == Fit::kMaybe) return false;
    if (header.fit == Fit::kNo) return garbage();
    const bool is_parameter = tag.word == Tag::kParameter;
    if (is_parameter && state_ == kBlock) return garbage();
    if (!is_parameter && state_ == kInvoke) end_call(events);  // its closer is missing
    if (done()) return true;
    consume(header.end);
    n_garbage_ = n_structural_ = 0;
    if (is_parameter)
      begin_value(header, events);
    else
      begin_call(header, events);
    return true;
  }
  const Tag whole = match_plain_tag(buffer_);
  if (whole.fit == Fit::kMaybe) return false;
  if (whole.fit == Fit::kNo) return garbage();
  n_garbage_ = n_structural_ = 0;
  if (tag.close && tag.word != Tag::kParameter && state_ == kInvoke) end_call(events);
  if (done()) return true;
  consume(whole.end);
  if (!tag.close || tag.word != Tag::kBlock) return true;
  if (n_calls_ == 0) {
    bad("a block without a call", events);
    return true;
  }
  state_ = kDone;
  return true;
}

void TurnParser::begin_call(const Header& header, OutputEvents& events) {
  raw_.clear();
  tool_ = plain(header.name);
  arguments_.clear();
  keys_.clear();
  add(events, OutputEvent::kCallStart, tool_);
  state_ = kInvoke;
}

void TurnParser::end_call(OutputEvents& events) {
  arguments(keys_.empty() ? "{}" : "}", events);
  add(events, OutputEvent::kCallEnd, "");
  n_calls_++;
  std::string call = fmt::format("{}\n{}", tool_, arguments_);
  n_equal_calls_ = call == last_call_ ? n_equal_calls_ + 1 : 1;
  last_call_ = std::move(call);
  state_ = kBlock;
  if (n_calls_ < kMaxCalls && n_equal_calls_ < kMaxEqualCalls) return;
  notes_.push_back(n_calls_ < kMaxCalls ? "the same call four times" : "128 calls");
  runaway_ = true;
  state_ = kDone;
}

void TurnParser::arguments(std::string_view json, OutputEvents& events) {
  if (json.empty()) return;
  arguments_ += json;
  add(events, OutputEvent::kCallArguments, json);
}

// ---- values

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

// ---- ends

void TurnParser::bad(std::string why, OutputEvents& events) {
  notes_.push_back(fmt::format("malformed call block: {}", why));
  if (n_calls_ == 0 && (state_ == kBlock || tool_.empty())) {
    const std::string text = plain(std::exchange(raw_, {}) + std::exchange(buffer_, {}));
    add(events, OutputEvent::kContent, text);
  } else {
    finish(false, events);
  }
  state_ = kDone;
}

void TurnParser::finish(bool cut, OutputEvents& events) {
  if (std::exchange(finished_, true)) return;
  if (done()) return;
  buffer_ += utf8_.finish();
  run(events);
  switch (state_) {
    case kReason:
    case kContent: {
      text_out(std::exchange(buffer_, {}), events);
      const auto kind = state_ == kReason ? OutputEvent::kReasoning : OutputEvent::kContent;
      if (!blanks_.empty()) add(events, kind, std::exchange(blanks_, {}));
      break;
    }
    case kBlock:
      if (n_calls_ == 0) bad("it ends before its first call", events);
      break;
    case kInvoke:
      if (!cut) end_call(events);
      break;
    case kString: {
      if (cut) break;
      // What is held is the value's closer in another spelling, or text.
      const bool is_closer = fit_closers(buffer_) == Fit::kMaybe && buffer_.size() > 1 &&
                             match_plain_tag(buffer_).fit == Fit::kYes;
      if (!is_closer) value_out(buffer_, events), notes_.push_back("the output ends in a value");
      end_string(is_closer, events);
      end_call(events);
      break;
    }
    case kJson:
      if (cut) break;
      if (buffer_.size() > scan_ &&
          match_plain_tag(std::string_view(buffer_).substr(scan_)).fit == Fit::kYes)
        buffer_.resize(scan_);
      notes_.push_back("the output ends in a value");
      end_json(std::exchange(buffer_, {}), events);
      end_call(events);
      break;
    case kDone:
      break;
  }
}

}  // namespace narwhal::serve
