#include "serve/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "serve/random_id.h"

namespace narwhal::serve {
namespace {

constexpr int kLoopTokens = 4096;

SamplingOptions with_bans(const Vocabulary& v, const TurnRequest& r) {
  SamplingOptions o = r.sampling;
  o.banned.insert(o.banned.end(), v.banned.begin(), v.banned.end());
  if (r.tool_choice == ToolChoice::kNone) o.banned.push_back(v.controls.dsml.id);
  return o;
}

}  // namespace

Vocabulary::Vocabulary(const text::Tokenizer& t, const text::Controls& c)
    : tokenizer(t), controls(c) {
  is_banned.resize(t.vocab_size());
  for (int32_t id = 0; id < t.vocab_size(); id++) {
    const bool structure = id == c.think.id || id == c.end_think.id || id == c.dsml.id ||
                           id == c.eos.id || id == c.user.id || id == c.assistant.id;
    is_banned[id] = !structure && (t.is_control(id) || id == t.pad());
    if (is_banned[id]) banned.push_back(id);
  }
}

Decoder::Decoder(const Vocabulary& vocabulary, const TurnJob& job)
    : v_(vocabulary),
      request_(job.request),
      max_tokens_(job.max_tokens),
      began_in_reasoning_(!job.tokens.empty() && job.tokens.back() == v_.controls.think.id),
      tools_(job.request.tools),
      parser_(v_.tokenizer, v_.controls,
              {.in_reasoning = began_in_reasoning_,
               .tools = request_.tool_choice == ToolChoice::kNone ? nullptr : &tools_}),
      sampler_(with_bans(v_, request_)),
      stops_(request_.stop),
      think_closed_(!began_in_reasoning_) {
  if (request_.constraint) constraint_ = *request_.constraint;
}

Result<int32_t> Decoder::next(std::span<const float> logits) {
  const bool in_reasoning = parser_.in_reasoning();
  NW_ASSIGN(const int32_t id, choose(logits));
  if (request_.n_logprobs >= 0) add_logprob(logits, id);
  ids_.push_back(id);
  if (in_reasoning) n_reasoning_++;
  if (in_reasoning && id == v_.controls.end_think.id) think_closed_ = true;

  OutputEvents parsed;
  parser_.push(id, parsed);
  take(parsed);
  if (finished_) return id;
  if (parser_.done()) {
    end(parser_.runaway() ? Finish::kLength : calls_.empty() ? Finish::kStop : Finish::kToolCalls);
  } else if (std::ssize(ids_) >= max_tokens_ || loops(id)) {
    cut();
  }
  return id;
}

void Decoder::cut() {
  if (finished_) return;
  OutputEvents parsed;
  parser_.finish(/*cut=*/true, parsed);
  take(parsed);
  if (!finished_) end(Finish::kLength);
}

void Decoder::end(Finish finish) {
  content_out(stops_.finish());
  finished_ = true;
  finish_ = stops_.matched() ? Finish::kStopString : finish;
}

Result<int32_t> Decoder::choose(std::span<const float> logits) {
  const text::Controls& c = v_.controls;
  if (parser_.in_reasoning() && request_.thinking_budget >= 0 &&
      n_reasoning_ >= request_.thinking_budget)
    return c.end_think.id;
  if (request_.tool_choice == ToolChoice::kRequired && !call_forced_ && !parser_.in_reasoning())
    force_call(/*with_separator=*/true);
  if (!request_.parallel_tool_calls && !closer_forced_ && !calls_.empty() &&
      parser_.n_calls() > 0) {
    closer_forced_ = true;
    for (int32_t id : v_.tokenizer.encode("\n</")) forced_.push_back(id);
    forced_.push_back(c.dsml.id);
    for (int32_t id : v_.tokenizer.encode("tool_calls>")) forced_.push_back(id);
  }
  if (!forced_.empty()) {
    const int32_t id = forced_.front();
    forced_.pop_front();
    return id;
  }
  if (!names_.empty()) return choose_name(logits);
  if (parser_.structural()) return most_likely(logits);
  if (constraint_ && !parser_.in_reasoning() && !parser_.in_block())
    return choose_constrained(logits);
  NW_ASSIGN(const int32_t id, sampler_.sample(logits));
  sampler_.accept(id);
  // A turn that ends inside its reasoning would be empty: the first time, the answer is asked for.
  if (parser_.in_reasoning() && c.ends_turn(id) && !eos_replaced_) {
    eos_replaced_ = true;
    return c.end_think.id;
  }
  return id;
}

Result<int32_t> Decoder::most_likely(std::span<const float> logits) const {
  int32_t best = -1;
  const auto n = std::min<int64_t>(std::ssize(logits), std::ssize(v_.is_banned));
  for (int32_t id = 0; id < n; id++) {
    if (!v_.is_banned[id] && (best < 0 || logits[id] > logits[best])) best = id;
  }
  if (best < 0 || std::isnan(logits[best])) return failed("no token can be chosen: bad logits");
  return best;
}

// The block up to the tool's name is given; the name is chosen among those allowed.
void Decoder::force_call(bool with_separator) {
  call_forced_ = true;
  const auto push = [&](std::string_view text) {
    for (int32_t id : v_.tokenizer.encode(text)) forced_.push_back(id);
  };
  push(with_separator ? "\n\n<" : "<");
  forced_.push_back(v_.controls.dsml.id);
  push("tool_calls>\n<");
  forced_.push_back(v_.controls.dsml.id);
  // Name and its surroundings are one run of text; what all names share comes first.
  for (const std::string& name :
       request_.allowed_tools.empty() ? tools_.names() : request_.allowed_tools)
    names_.push_back(v_.tokenizer.encode(fmt::format("invoke name=\"{}\">\n", name)));
  name_at_ = 0;
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

// A token that the format allows; or, in front of it, the one that begins a call.
Result<int32_t> Decoder::choose_constrained(std::span<const float> logits) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const std::vector<int32_t> separator = v_.tokenizer.encode("\n\n");
  const bool may_call = content_tokens_ == 0 && !tools_.empty() && separator.size() == 1 &&
                        request_.tool_choice == ToolChoice::kAuto;
  const std::span<const uint64_t> mask = constraint_->mask();
  masked_.assign(logits.begin(), logits.end());
  for (int32_t id = 0; id < std::ssize(masked_); id++) {
    const bool allowed = static_cast<size_t>(id) / 64 < mask.size() && test_bit(mask, id);
    if (!allowed && !(may_call && id == separator[0])) masked_[id] = kNever;
  }
  NW_ASSIGN(const int32_t id, sampler_.sample(masked_));
  sampler_.accept(id);
  content_tokens_++;
  if (may_call && id == separator[0] && !constraint_->allows(id)) {
    constraint_.reset();  // it will be a call, not a document
    force_call(/*with_separator=*/false);
  } else if (!constraint_->accept(id)) {
    return failed("the response format does not allow what was sampled");
  }
  return id;
}

void Decoder::content_out(std::string text) {
  if (text.empty()) return;
  content_ += text;
  events_.push_back({.kind = TurnEvent::kContent, .text = std::move(text)});
}

void Decoder::take(const OutputEvents& parsed) {
  for (const OutputEvent& e : parsed) {
    switch (e.kind) {
      case OutputEvent::kReasoning:
        events_.push_back({.kind = TurnEvent::kReasoning, .text = e.text});
        break;
      case OutputEvent::kContent:
        content_out(stops_.push(e.text));
        if (stops_.matched()) return end(Finish::kStopString);
        break;
      case OutputEvent::kCallStart:
        content_out(stops_.finish());
        if (stops_.matched()) return end(Finish::kStopString);
        calls_.push_back({request_.call_id_prefix + random_hex(16), e.text, {}});
        events_.push_back({.kind = TurnEvent::kCallStart, .text = e.text, .id = calls_.back().id});
        break;
      case OutputEvent::kCallArguments:
        calls_.back().arguments += e.text;
        events_.push_back({.kind = TurnEvent::kCallArguments, .text = e.text});
        break;
      case OutputEvent::kCallEnd:
        events_.push_back({.kind = TurnEvent::kCallEnd});
        break;
    }
  }
}

// The chosen token and the most likely ones, from the raw logits.
void Decoder::add_logprob(std::span<const float> logits, int32_t id) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(double(x) - double(top));
  const double log_sum = double(top) + std::log(sum);
  const auto entry = [&](int32_t token) {
    const std::string_view bytes = v_.tokenizer.bytes(token);
    Json j = Json::object();
    j.set("token", Json::of(text::to_utf8(bytes)));
    j.set("logprob", Json::of(double(logits[token]) - log_sum));
    Json list = Json::array();
    for (char b : bytes) list.push(Json::of(int64_t{static_cast<unsigned char>(b)}));
    j.set("bytes", std::move(list));
    return j;
  };
  std::vector<int32_t> order(std::min<size_t>(logits.size(), v_.tokenizer.vocab_size()));
  for (size_t i = 0; i < order.size(); i++) order[i] = static_cast<int32_t>(i);
  const auto n = std::min<size_t>(request_.n_logprobs, order.size());
  std::partial_sort(
      order.begin(), order.begin() + static_cast<int64_t>(n), order.end(),
      [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  Json j = entry(id);
  Json others = Json::array();
  for (size_t i = 0; i < n; i++) others.push(entry(order[i]));
  j.set("top_logprobs", std::move(others));
  events_.push_back(
      {.kind = TurnEvent::kLogprob, .text = j.dump(), .in_reasoning = parser_.in_reasoning()});
}

// Low-bit weights sometimes repeat for ever.
bool Decoder::loops(int32_t id) {
  const size_t n = ids_.size();
  for (size_t p = 1; p < runs_.size(); p++) {
    runs_[p] = n > p && ids_[n - 1 - p] == id ? runs_[p] + 1 : 0;
    if (runs_[p] >= kLoopTokens) return true;
  }
  return false;
}

text::SampledTurn Decoder::sampled() const {
  text::SampledTurn turn;
  const auto split = ids_.begin() + (began_in_reasoning_ ? n_reasoning_ : 0);
  if (began_in_reasoning_) turn.reasoning.assign(ids_.begin(), split);
  turn.answer.assign(split, ids_.end());
  // A role token that ended the turn is no part of it.
  const text::Controls& c = v_.controls;
  auto& last = turn.answer.empty() ? turn.reasoning : turn.answer;
  if (!last.empty() && c.ends_turn(last.back()) && last.back() != c.eos.id) last.pop_back();
  // Calls may have begun without </think>; otherwise what was cut short is closed.
  if (began_in_reasoning_ && !think_closed_ && calls_.empty())
    turn.reasoning.push_back(c.end_think.id);
  return turn;
}

}  // namespace narwhal::serve
