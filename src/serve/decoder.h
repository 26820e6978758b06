// Decoder: from what the model expects in one turn to its tokens and events. What is sampled, what
// is forced, and when the turn is over; it knows nothing of sessions or sockets.
//
//   Decoder decoder(vocabulary, job);
//   while (!decoder.finished()) {
//     NW_ASSIGN(int32_t id, decoder.next(session.prediction()));   // append it to the session
//     take(decoder.events());
//     if (decoder.went_back()) ...                   // the session must hold prompt and ids()
//   }
//
// One thread at a time.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "narwhal/sampler.h"
#include "narwhal/status.h"
#include "serve/stop_strings.h"
#include "serve/tool_table.h"
#include "serve/turn.h"
#include "serve/turn_parser.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace narwhal::serve {

// What all turns share: the vocabulary and which of its tokens may be sampled at all.
struct Vocabulary {
  Vocabulary(const text::Tokenizer& t, const text::Controls& c);
  const text::Tokenizer& tokenizer;
  const text::Controls& controls;
  std::vector<int32_t> banned;  // controls that have no place in an answer
  std::vector<bool> is_banned;
};

class Decoder {
 public:
  Decoder(const Vocabulary& vocabulary, const TurnJob& job);

  // The next token: forced, the most likely one (structure of calls), or sampled.
  // Masks of grammars and log-probabilities look at all logits, everything else at candidates.
  Result<int32_t> next(const Prediction& expected);
  // The output ends here, because nothing more fits.
  void cut();
  // Whether the last next() took tokens back to write a malformed block again; no event had told
  // of them. ids() is what is left. Reading it resets it.
  bool went_back() { return std::exchange(went_back_, false); }

  bool finished() const { return finished_; }
  Finish finish() const { return finish_; }
  const std::string& stop_string() const { return stops_.match(); }
  // Events since the last call; the final one is not among them.
  std::vector<TurnEvent> events() { return std::exchange(events_, {}); }

  const std::vector<int32_t>& ids() const { return ids_; }
  int64_t n_reasoning() const { return n_reasoning_; }
  uint64_t seed() const { return sampler_.seed(); }
  // Sentences on what was repaired or given up, for the log.
  std::vector<std::string> notes() const;

  // The answer so far, for turn memory.
  const std::string& content() const { return content_; }
  const std::vector<text::ToolCall>& calls() const { return calls_; }
  text::SampledTurn sampled() const;

 private:
  // decoder_choose.cc
  Result<int32_t> choose(const Prediction& expected);
  Result<int32_t> choose_freely(const Prediction& expected);
  Result<int32_t> choose_in_block(const Prediction& expected);
  Result<int32_t> choose_in_format(std::span<const float> logits);
  int32_t choose_name(std::span<const float> logits);
  Result<int32_t> most_likely(const Prediction& expected) const;
  Result<int32_t> most_likely_of(std::span<const float> logits) const;
  std::optional<int32_t> best_candidate(const Candidates& best,
                                        std::optional<std::span<const uint64_t>> allowed) const;
  Result<int32_t> sample(const Prediction& expected);
  Result<int32_t> sample_without_calls(const Prediction& expected);
  Result<int32_t> sample_row(std::span<const float> logits);
  void mask(std::span<const float> logits, std::span<const uint64_t> allowed);
  void force(std::string_view text);
  void force_call(bool with_separator);

  Status follow_block(int32_t id);
  void remember_rest(int32_t id);
  void go_back();
  void take(const OutputEvents& parsed);
  void content_out(std::string text);
  void add_logprob(std::span<const float> logits, int32_t id);
  bool loops(int32_t id);
  void end(Finish finish);

  const Vocabulary& v_;
  const TurnRequest& request_;
  const int64_t max_tokens_;
  const bool began_in_reasoning_;
  ToolTable tools_;
  TurnParser parser_;
  Sampler sampler_;
  StopStrings stops_;
  std::optional<Constraint> constraint_;  // of the content
  std::optional<Constraint> block_;       // of the block of calls that is being written
  bool enforces_calls_;
  std::vector<float> masked_;
  std::deque<int32_t> forced_;
  std::vector<std::vector<int32_t>> names_;  // continuations of the allowed names, as ids
  size_t name_at_ = 0;
  bool call_forced_ = false, closer_forced_ = false, eos_replaced_ = false;

  // Before the token with the last "<" that may begin a block; nothing was told since.
  struct Rest {
    TurnParser parser;
    size_t n_ids;
    int64_t n_reasoning;
  };
  std::optional<Rest> rest_;
  int retries_left_;
  bool went_back_ = false;

  std::vector<TurnEvent> events_;
  std::vector<int32_t> ids_;
  std::string content_;
  std::vector<text::ToolCall> calls_;
  int64_t n_reasoning_ = 0, content_tokens_ = 0;
  bool think_closed_ = false;
  std::vector<std::string> notes_;
  std::array<int, 65> runs_{};  // [p]: how long the output has repeated with period p
  bool finished_ = false;
  Finish finish_ = Finish::kStop;
};

}  // namespace narwhal::serve
