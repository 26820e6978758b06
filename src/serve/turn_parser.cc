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
constexpr int kMaxStructural = 256;  // tokens without a tag
constexpr int kMaxJson = 4096;       // likewise, inside a JSON value and outside its strings
constexpr int kMaxCalls = 128, kMaxEqualCalls = 4;

void add(OutputEvents& events, OutputEvent::Kind kind, std::string_view text) {
  const bool joins = kind != OutputEvent::kCallStart && kind != OutputEvent::kCallEnd &&
                     !events.empty() && events.back().kind == kind;
  if (joins)
    events.back().text += text;
  else
    events.push_back({kind, std::string(text)});
}

}  // namespace

TurnParser::TurnParser(const text::Tokenizer& tokenizer, const text::Controls& controls,
                       Options options)
    : tokenizer_(&tokenizer),
      controls_(&controls),
      tools_(options.tools && !options.tools->empty() ? options.tools : nullptr),
      is_exact_(options.is_exact),
      ends_loops_(options.ends_loops),
      state_(options.in_reasoning ? kReason : kContent) {}

void TurnParser::push(int32_t id, OutputEvents& events) {
  if (done() || finished_) return;
  n_structural_ = structural() ? n_structural_ + 1 : 0;
  if (!tokenizer_->is_control(id)) {
    buffer_ += utf8_.push(tokenizer_->bytes(id));
  } else {
    buffer_ += utf8_.finish();
    if (controls_->ends_turn(id)) {
      run(events);
      finish(false, events);
      state_ = kDone;
      return;
    }
    if (id == controls_->end_think.id && state_ == kReason) {
      run(events);
      text_out(std::exchange(buffer_, {}), events);
      if (!blanks_.empty()) add(events, OutputEvent::kReasoning, std::exchange(blanks_, {}));
      state_ = kContent;
      line_start_ = true;
      in_fence_ = false;
      line_head_.clear();
      return;
    }
    if (id == controls_->dsml.id) buffer_ += kDsmlByte;
  }
  run(events);
  const int limit = state_ == kJson ? kMaxJson : kMaxStructural;
  if (n_structural_ > limit && !done()) bad(fmt::format("no tag within {} tokens", limit), events);
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
      return opens_block();
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
      out += controls_->dsml.name;
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
  if (is_exact_ && buffer_.size() > 1 && !control_seen) return Fit::kNo;
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
  if (n_calls_ < kMaxCalls && (n_equal_calls_ < kMaxEqualCalls || !ends_loops_)) return;
  notes_.push_back(n_calls_ < kMaxCalls ? "the same call four times" : "128 calls");
  runaway_ = true;
  state_ = kDone;
}

void TurnParser::arguments(std::string_view json, OutputEvents& events) {
  if (json.empty()) return;
  arguments_ += json;
  add(events, OutputEvent::kCallArguments, json);
}

// ---- ends

void TurnParser::bad(std::string why, OutputEvents& events) {
  notes_.push_back(fmt::format("malformed call block: {}", why));
  if (n_calls_ == 0 && (state_ == kBlock || tool_.empty())) {
    const std::string text = plain(std::exchange(raw_, {}) + std::exchange(buffer_, {}));
    add(events, OutputEvent::kContent, text);
    malformed_ = true;
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
