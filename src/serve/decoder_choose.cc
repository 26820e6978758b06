// Which token comes next: forced, the most likely one, or sampled, under the rules of the request.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "serve/decoder.h"

namespace narwhal::serve {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

bool is_allowed(std::span<const uint64_t> allowed, int32_t id) {
  return static_cast<size_t>(id) / 64 < allowed.size() && test_bit(allowed, id);
}

}  // namespace

Result<int32_t> Decoder::choose(const Prediction& expected) {
  const text::Controls& c = v_.controls;
  if (parser_.in_reasoning() && request_.thinking_budget >= 0 &&
      n_reasoning_ >= request_.thinking_budget)
    return c.end_think.id;
  if (request_.tool_choice == ToolChoice::kRequired && !call_forced_ && !parser_.in_reasoning() &&
      request_.script.empty())
    force_call(/*with_separator=*/true);
  // A grammar of the block knows that there is one call only.
  if (!request_.parallel_tool_calls && !closer_forced_ && !block_ && parser_.n_calls() > 0) {
    closer_forced_ = true;
    force("\n</");
    forced_.push_back(c.dsml.id);
    force("tool_calls>");
  }
  if (!forced_.empty()) {
    const int32_t id = forced_.front();
    forced_.pop_front();
    return id;
  }
  if (!names_.empty()) return choose_name(expected.row());
  if (block_) return choose_in_block(expected);
  if (parser_.structural()) return most_likely(expected);
  if (constraint_ && !parser_.in_reasoning() && !parser_.in_block())
    return choose_in_format(expected.row());
  return choose_freely(expected);
}

Result<int32_t> Decoder::choose_freely(const Prediction& expected) {
  const text::Controls& c = v_.controls;
  const bool without_calls = enforces_calls_ && parser_.in_reasoning();
  NW_ASSIGN(const int32_t id, without_calls ? sample_without_calls(expected) : sample(expected));
  // A turn that ends inside its reasoning would be empty: the first time, the answer is asked for.
  if (parser_.in_reasoning() && c.ends_turn(id) && !eos_replaced_) {
    eos_replaced_ = true;
    return c.end_think.id;
  }
  return id;
}

// A block inside the reasoning would escape its grammar.
Result<int32_t> Decoder::sample_without_calls(const Prediction& expected) {
  const int32_t never = v_.controls.dsml.id;
  Candidates best = expected.best;
  for (int i = 0; i < best.n; i++)
    if (best.ids[i] == never) best.logits[i] = kNever;
  return sample(Prediction{best, [&]() -> std::span<const float> {
                             const auto row = expected.row();
                             masked_.assign(row.begin(), row.end());
                             masked_[never] = kNever;
                             return masked_;
                           }});
}

// Markup, names and JSON take the most likely token that the grammar allows, texts are sampled.
Result<int32_t> Decoder::choose_in_block(const Prediction& expected) {
  const std::span<const uint64_t> allowed = block_->mask();
  if (parser_.structural()) {
    if (const auto id = best_candidate(expected.best, allowed)) return *id;
  }
  mask(expected.row(), allowed);
  return parser_.structural() ? most_likely_of(masked_) : sample_row(masked_);
}

// A document, or instead of it a call where tools are offered: the first token decides.
Result<int32_t> Decoder::choose_in_format(std::span<const float> logits) {
  const std::vector<int32_t> separator = v_.tokenizer.encode("\n\n");
  const bool may_call = content_tokens_ == 0 && !tools_.empty() && separator.size() == 1 &&
                        request_.tool_choice == ToolChoice::kAuto;
  mask(logits, constraint_->mask());
  if (may_call) masked_[separator[0]] = logits[separator[0]];
  NW_ASSIGN(const int32_t id, sample_row(masked_));
  content_tokens_++;
  if (may_call && id == separator[0] && !constraint_->allows(id)) {
    constraint_.reset();
    force_call(/*with_separator=*/false);
  } else if (!constraint_->accept(id)) {
    return failed("the response format does not allow what was sampled");
  }
  return id;
}

int32_t Decoder::choose_name(std::span<const float> logits) {
  int32_t best = -1;
  for (const auto& name : names_) {
    const int32_t id = name[name_at_];
    if (best < 0 || logits[id] > logits[best]) best = id;
  }
  std::erase_if(names_, [&](const auto& name) { return name[name_at_] != best; });
  name_at_++;
  // No encoding is the beginning of another: each ends with the only line feed of the name.
  if (name_at_ == names_.front().size()) names_.clear();
  return best;
}

Result<int32_t> Decoder::most_likely(const Prediction& expected) const {
  if (const auto id = best_candidate(expected.best, std::nullopt)) return *id;
  return most_likely_of(expected.row());
}

// The first candidate that may be chosen, of those `allowed` where there is a mask.
std::optional<int32_t> Decoder::best_candidate(
    const Candidates& best, std::optional<std::span<const uint64_t>> allowed) const {
  if (best.first_nan >= 0) return std::nullopt;
  for (int i = 0; i < best.n && best.logits[i] != kNever; i++) {
    const int32_t id = best.ids[i];
    if (id < std::ssize(v_.is_banned) && !v_.is_banned[id] &&
        (!allowed || is_allowed(*allowed, id)))
      return id;
  }
  return std::nullopt;
}

Result<int32_t> Decoder::most_likely_of(std::span<const float> logits) const {
  int32_t best = -1;
  const auto n = std::min<int64_t>(std::ssize(logits), std::ssize(v_.is_banned));
  for (int32_t id = 0; id < n; id++) {
    if (!v_.is_banned[id] && (best < 0 || logits[id] > logits[best])) best = id;
  }
  if (best < 0 || std::isnan(logits[best])) return failed("no token can be chosen: bad logits");
  return best;
}

Result<int32_t> Decoder::sample(const Prediction& expected) {
  NW_ASSIGN(const int32_t id, sampler_.sample(expected));
  sampler_.accept(id);
  return id;
}

Result<int32_t> Decoder::sample_row(std::span<const float> logits) {
  return sample(Prediction{candidates_of(logits), [&] { return logits; }});
}

void Decoder::mask(std::span<const float> logits, std::span<const uint64_t> allowed) {
  masked_.assign(logits.begin(), logits.end());
  for (int32_t id = 0; id < std::ssize(masked_); id++) {
    if (!is_allowed(allowed, id)) masked_[id] = kNever;
  }
}

void Decoder::force(std::string_view text) {
  for (int32_t id : v_.tokenizer.encode(text)) forced_.push_back(id);
}

// The block up to the tool's name is given; the name is chosen among those allowed.
void Decoder::force_call(bool with_separator) {
  call_forced_ = true;
  force(with_separator ? "\n\n<" : "<");
  forced_.push_back(v_.controls.dsml.id);
  force("tool_calls>\n<");
  forced_.push_back(v_.controls.dsml.id);
  // Name and its surroundings are one run of text; what all names share comes first.
  for (const std::string& name :
       request_.allowed_tools.empty() ? tools_.names() : request_.allowed_tools)
    names_.push_back(v_.tokenizer.encode(fmt::format("invoke name=\"{}\">\n", name)));
  name_at_ = 0;
}

}  // namespace narwhal::serve
