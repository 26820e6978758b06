#include "serve/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "serve/random_id.h"

namespace narwhal::serve {
namespace {

SamplingOptions with_bans(const Vocabulary& v, const TurnRequest& r) {
  SamplingOptions o = r.sampling;
  o.banned.insert(o.banned.end(), v.banned.begin(), v.banned.end());
  if (r.tool_choice == ToolChoice::kNone) o.banned.push_back(v.controls.dsml.id);
  return o;
}

// With controls that are spelled out taken for what they name.
std::vector<int32_t> encode_with_controls(const text::Tokenizer& t, std::string_view text) {
  std::vector<int32_t> ids;
  size_t at = 0;
  const auto add = [&](std::string_view part) {
    const auto more = t.encode(part);
    ids.insert(ids.end(), more.begin(), more.end());
  };
  while (const auto match = t.find_added(text, at)) {
    add(text.substr(at, match->begin - at));
    ids.push_back(match->id);
    at = match->begin + match->length;
  }
  add(text.substr(at));
  return ids;
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
               .tools = request_.tool_choice == ToolChoice::kNone ? nullptr : &tools_,
               .is_exact = request_.enforces_calls,
               .ends_loops = request_.loop_tokens > 0}),
      sampler_(with_bans(v_, request_)),
      stops_(request_.stop),
      enforces_calls_(request_.enforces_calls && request_.call_grammar),
      retries_left_(request_.call_retries),
      think_closed_(!began_in_reasoning_) {
  if (request_.constraint) constraint_ = *request_.constraint;
  if (request_.script.empty()) return;
  if (began_in_reasoning_) forced_.push_back(v_.controls.end_think.id);
  for (int32_t id : encode_with_controls(v_.tokenizer, request_.script)) forced_.push_back(id);
  forced_.push_back(v_.controls.eos.id);
}

Result<int32_t> Decoder::next(const Prediction& expected) {
  const bool in_reasoning = parser_.in_reasoning();
  NW_ASSIGN(const int32_t id, choose(expected));
  if (request_.n_logprobs >= 0) add_logprob(expected.row(), id);
  remember_rest(id);
  ids_.push_back(id);
  if (in_reasoning) n_reasoning_++;
  if (in_reasoning && id == v_.controls.end_think.id) think_closed_ = true;

  OutputEvents parsed;
  parser_.push(id, parsed);
  NW_TRY(follow_block(id));
  if (parser_.malformed() && rest_ && retries_left_ > 0 && std::ssize(ids_) < max_tokens_) {
    go_back();
    return id;
  }
  if (!parsed.empty()) rest_.reset();
  take(parsed);
  if (finished_) return id;
  if (parser_.done()) {
    end(parser_.runaway() ? Finish::kLength : calls_.empty() ? Finish::kStop : Finish::kToolCalls);
  } else if (std::ssize(ids_) >= max_tokens_ || loops(id)) {
    cut();
  }
  return id;
}

// The grammar of a block goes along from its control on, whoever chose the tokens.
Status Decoder::follow_block(int32_t id) {
  if (block_) {
    if (!parser_.in_block() && !parser_.opens_block() && !parser_.done()) {
      block_.reset();
    } else if (!block_->accept(id)) {
      return failed("the grammar of the tool calls does not allow what was chosen");
    }
    return ok_status();
  }
  if (!enforces_calls_ || id != v_.controls.dsml.id || !parser_.opens_block()) return ok_status();
  block_ = *request_.call_grammar;
  const bool begins = block_->accept_bytes("\n\n<") && block_->accept(id);
  NW_CHECK(begins, "a grammar of calls begins with the opener");
  return ok_status();
}

void Decoder::remember_rest(int32_t id) {
  const bool may_open = parser_.at_rest() && v_.tokenizer.bytes(id).find('<') != std::string::npos;
  // Log-probabilities were told already.
  if (!may_open || tools_.empty() || retries_left_ == 0 || request_.n_logprobs >= 0) return;
  rest_ = Rest{parser_, ids_.size(), n_reasoning_};
}

// Back to before a block that could not be read. What is written now is sampled as before, but if
// it is a block again, its grammar is enforced.
void Decoder::go_back() {
  notes_.push_back(fmt::format("{}; {} tokens written again", parser_.notes().back(),
                               ids_.size() - rest_->n_ids));
  parser_ = std::move(rest_->parser);
  ids_.resize(rest_->n_ids);
  n_reasoning_ = rest_->n_reasoning;
  think_closed_ = !parser_.in_reasoning();
  rest_.reset();
  block_.reset();
  forced_.clear();
  runs_.fill(0);
  retries_left_--;
  enforces_calls_ = request_.call_grammar != nullptr;
  went_back_ = true;
}

std::vector<std::string> Decoder::notes() const {
  std::vector<std::string> all = notes_;
  all.insert(all.end(), parser_.notes().begin(), parser_.notes().end());
  return all;
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
  if (request_.loop_tokens <= 0) return false;
  const size_t n = ids_.size();
  for (size_t p = 1; p < runs_.size(); p++) {
    runs_[p] = n > p && ids_[n - 1 - p] == id ? runs_[p] + 1 : 0;
    if (runs_[p] >= request_.loop_tokens) {
      notes_.push_back(fmt::format("{} tokens repeat with a period of {}", runs_[p], p));
      return true;
    }
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
