#include "text/output_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace narwhal::text {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";
constexpr size_t kMaxOpener = 512;   // bytes held to see whether a block begins
constexpr size_t kMaxGarbage = 256;  // bytes skipped between the tags of a block

std::string_view trim_front(std::string_view s) {
  s.remove_prefix(std::min(s.find_first_not_of(kBlanks), s.size()));
  return s;
}

// Where the end of `s` may be the beginning of a tag: blanks, then nothing, "<" or "</".
size_t hold_from(std::string_view s) {
  size_t at = s.size();
  if (s.ends_with("</"))
    at -= 2;
  else if (s.ends_with('<'))
    at -= 1;
  return s.substr(0, at).find_last_not_of(kBlanks) + 1;  // npos + 1 == 0
}

enum class Fit { kNo, kMaybe, kYes };

// Whether `s` begins with `tag`, or may once it has grown.
Fit fit(std::string_view s, std::string_view tag) {
  if (s.starts_with(tag)) return Fit::kYes;
  return tag.starts_with(s) ? Fit::kMaybe : Fit::kNo;
}

}  // namespace

OutputParser::OutputParser(const Tokenizer& tokenizer, const Controls& controls, bool in_reasoning)
    : tokenizer_(tokenizer),
      controls_(controls),
      tags_(controls),
      state_(in_reasoning ? kReason : kContentText),
      outside_(state_) {}

OutputParser::Events OutputParser::push(int32_t id) {
  Events events;
  if (state_ == kDone || finished_) return events;
  if (tokenizer_.is_control(id)) {
    take_text(utf8_.finish(), events);
    take_control(id, events);
  } else {
    take_text(utf8_.push(tokenizer_.bytes(id)), events);
  }
  return events;
}

OutputParser::Events OutputParser::finish() {
  Events events;
  if (std::exchange(finished_, true)) return events;
  take_text(utf8_.finish(), events);
  if (state_ == kOpener) release(events);
  show(std::exchange(held_, {}), events);
  if (state_ != kBlock || trim_front(flat_).empty()) return events;

  // The closer of an invoke may be missing, but not that of a value: it may have been cut.
  const size_t opened = flat_.rfind(tags_.open_parameter);
  const size_t closed = flat_.rfind(tags_.close_parameter);
  const bool cut = opened != flat_.npos && (closed == flat_.npos || closed < opened);
  const std::string whole = flat_ + tags_.close_invoke;
  std::string_view rest = whole;
  auto call = take_invoke(controls_, tags_, rest, false);
  if (cut || !call.ok()) {
    bad_call(cut ? "the output ends inside a parameter" : call.status().message(), events);
  } else {
    events.push_back({OutputEvent::kToolCall, {}, *std::move(call), {}});
  }
  return events;
}

void OutputParser::end(Events& events) {
  Events last = finish();
  std::move(last.begin(), last.end(), std::back_inserter(events));
  events.push_back({OutputEvent::kEnd, {}, {}, {}});
  state_ = kDone;
}

void OutputParser::take_text(std::string_view utf8, Events& events) {
  if (utf8.empty() || state_ == kDone) return;
  if (state_ == kOpener || state_ == kBlock) return take_flat(utf8, events);
  if (held_.ends_with('<') && utf8 == "/") {
    held_ += utf8;
    return;
  }
  const size_t from = hold_from(utf8);
  if (from > 0 || held_.ends_with('<') || held_.ends_with('/')) {
    // Nothing held before this text can belong to a tag any more.
    show(std::exchange(held_, {}), events);
    show(utf8.substr(0, from), events);
  }
  held_ += utf8.substr(from);
}

void OutputParser::take_control(int32_t id, Events& events) {
  if (controls_.ends_turn(id)) return end(events);
  const bool may_be_invoke = state_ == kOpener && fit(flat_, tags_.open_block) == Fit::kYes;
  if (state_ == kBlock || may_be_invoke) return take_flat(flatten(Control{id, {}}), events);
  if (state_ == kOpener) {
    release(events);
    return take_control(id, events);
  }
  if (id == controls_.end_think.id && state_ == kReason) {
    show(std::exchange(held_, {}), events);
    state_ = kContentText;
    line_start_ = true;
  } else if (id == controls_.dsml.id) {
    const size_t n = held_.ends_with("</") ? 2 : held_.ends_with('<') ? 1 : 0;
    if (n == 0) return take_text(controls_.dsml.name, events);
    flat_ = n == 1 ? tags_.open : tags_.close;
    held_.erase(held_.size() - n);
    outside_ = std::exchange(state_, kOpener);
  }
}

void OutputParser::show(std::string_view text, Events& events) {
  if (text.empty()) return;
  const size_t feed = text.rfind('\n');
  const bool blank = text.substr(feed + 1).find_first_not_of(" \t\r") == text.npos;
  line_start_ = blank && (feed != text.npos || line_start_);
  const auto kind = state_ == kReason ? OutputEvent::kReasoning : OutputEvent::kContent;
  if (!events.empty() && events.back().kind == kind)
    events.back().text += text;
  else
    events.push_back({kind, std::string(text), {}, {}});
}

// What looked like a tag is none: it is text after all.
void OutputParser::release(Events& events) {
  state_ = outside_;
  const std::string text = unflatten(controls_, std::exchange(flat_, {}));
  show(std::exchange(held_, {}), events);
  show(text.substr(0, 1), events);  // its "<" has been considered
  take_text(std::string_view(text).substr(1), events);
}

void OutputParser::take_flat(std::string_view flat, Events& events) {
  flat_ += flat;
  if (state_ == kBlock) return read_invokes(events);

  Fit opener = fit(flat_, tags_.open_block);
  if (opener == Fit::kYes && outside_ == kReason) {
    // Reasoning may mention the syntax; only a call at the start of a line ends it.
    const bool at_line_start = held_.find('\n') != held_.npos || line_start_;
    const auto after = trim_front(std::string_view(flat_).substr(tags_.open_block.size()));
    opener = at_line_start && flat_.size() <= kMaxOpener ? fit(after, tags_.open_invoke) : Fit::kNo;
  }
  if (opener == Fit::kYes) {
    held_.clear();  // the blanks before the block
    flat_.erase(0, tags_.open_block.size());
    state_ = kBlock;
    searched_ = 0;
    return read_invokes(events);
  }
  if (opener == Fit::kMaybe) return;
  // A closer without its opener is dropped.
  for (const std::string& tag : {tags_.close_block, tags_.close_invoke, tags_.close_parameter}) {
    const Fit closer = fit(flat_, tag);
    if (closer == Fit::kMaybe) return;
    if (closer == Fit::kNo) continue;
    state_ = outside_;
    const std::string rest = std::exchange(flat_, {}).substr(tag.size());
    return take_text(rest, events);
  }
  release(events);
}

// Reads all that is whole in the block so far.
void OutputParser::read_invokes(Events& events) {
  for (;;) {
    if (searched_ == 0) flat_.erase(0, flat_.size() - trim_front(flat_).size());
    if (fit(flat_, tags_.close_block) == Fit::kYes) {
      flat_.clear();
      return end(events);
    }
    if (fit(flat_, tags_.open_invoke) == Fit::kYes) {
      const size_t closer = flat_.find(tags_.close_invoke, searched_);
      if (closer == flat_.npos) {
        searched_ = std::max<size_t>(flat_.size(), tags_.close_invoke.size()) -
                    tags_.close_invoke.size() + 1;
        return;
      }
      std::string after = flat_.substr(closer + tags_.close_invoke.size());
      flat_.resize(closer + tags_.close_invoke.size());
      std::string_view rest = flat_;
      auto call = take_invoke(controls_, tags_, rest, false);
      if (call.ok())
        events.push_back({OutputEvent::kToolCall, {}, *std::move(call), {}});
      else
        bad_call(call.status().message(), events);
      flat_ = std::move(after);
      searched_ = 0;
      continue;
    }
    if (fit(flat_, tags_.open_invoke) == Fit::kMaybe ||
        fit(flat_, tags_.close_block) == Fit::kMaybe)
      return;
    const size_t tag = std::min(flat_.find(tags_.open_invoke), flat_.find(tags_.close_block));
    if (tag > kMaxGarbage && flat_.size() > kMaxGarbage) {
      bad_call("no tag of a tool call where one was expected", events);
      return end(events);
    }
    if (tag == flat_.npos) return;
    flat_.erase(0, tag);
  }
}

void OutputParser::bad_call(std::string why, Events& events) {
  events.push_back({OutputEvent::kBadCall, std::move(why), {}, unflatten(controls_, flat_)});
  flat_.clear();
}

}  // namespace narwhal::text
