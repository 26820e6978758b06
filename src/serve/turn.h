// One turn: the request that every API is translated to, and the answer as it comes.
//
// The scheduler writes events, the IO thread takes them; everything else belongs to one of the two.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "grammar/constraint.h"
#include "narwhal/sampler.h"
#include "narwhal/session.h"
#include "text/chat.h"
#include "text/prompt.h"

namespace narwhal::serve {

enum class ToolChoice { kAuto, kNone, kRequired };

struct ChatMessage {
  text::Message message;
  std::string turn_key = {};  // assistant: names the turn in turn memory, as the client returned it
};

struct TurnRequest {
  // What to continue: a conversation, or a prompt that is made already.
  std::vector<ChatMessage> messages;
  text::Prompt prompt;
  std::vector<int32_t> prompt_ids;

  std::vector<Json> tools;  // function objects {"name", "description", "parameters"}
  ToolChoice tool_choice = ToolChoice::kAuto;
  std::vector<std::string> allowed_tools;  // only these may be called; empty = any declared one
  std::vector<std::string> strict_tools;   // the arguments of these must satisfy their schemas
  bool parallel_tool_calls = true;

  bool thinking = true;
  text::Effort effort = text::Effort::kHigh;
  int64_t thinking_budget = -1;  // reasoning tokens after which </think> is forced; -1 = none

  SamplingOptions sampling;
  int64_t max_tokens = 0;     // 0 = the rest of the context
  bool prefill_only = false;  // compute the prompt, answer nothing
  std::vector<std::string> stop;
  int n_logprobs = -1;   // -1 = none; otherwise the chosen token and this many others
  Json response_format;  // the JSON schema the content must follow, or null
  std::shared_ptr<const Constraint> constraint = {};  // enforces it; null = the model is only asked
  // Of a block of calls, from its two line feeds on; null = none. Enforced from the start where
  // tools are strict or only some are allowed, else when a malformed block is written again.
  std::shared_ptr<const Constraint> call_grammar = {};
  bool enforces_calls = false;
  int call_retries = 1;    // how often a malformed block is written again
  int loop_tokens = 4096;  // repetition that ends the turn; 0 = never

  std::string script = {};  // tests of clients: written instead of being sampled, then the end

  std::string api;  // the endpoint, for the log
  std::string call_id_prefix = "call_";
  std::string client;  // who asks, as far as it can be told: for fairness
};

enum class Finish { kStop, kStopString, kToolCalls, kLength };

struct Usage {
  int64_t prompt = 0, cached = 0, completion = 0, reasoning = 0;
};

struct Timings {
  double queue_ms = 0, prefill_ms = 0, decode_ms = 0;
};

struct TurnEvent {
  enum Kind {
    kStarted,        // usage.prompt, usage.cached, key
    kReasoning,      // text
    kContent,        // text
    kCallStart,      // id, text: the tool's name
    kCallArguments,  // text
    kCallEnd,
    kLogprob,  // text: a JSON object; in_reasoning
    kDone,     // finish, stop, usage, timings
    kFailed,   // text: a sentence for the client
  };
  Kind kind = kStarted;
  std::string text = {}, id = {};
  bool in_reasoning = false;
  Finish finish = Finish::kStop;
  Usage usage = {};
  Timings timings = {};
  std::string key = {};  // kStarted: names this turn in turn memory
};

// A position in a prompt that later prompts are likely to return to.
struct PromptMark {
  int64_t position = 0;
  Mark why = Mark::kTurnEnd;
};

// What the model is to compute for a request.
struct TurnJob {
  TurnRequest request;
  std::vector<int32_t> tokens;  // the prompt
  std::vector<PromptMark> marks;
  uint64_t history = 0;          // hash of the conversation as the client sees it (turn_memory.h)
  int64_t max_tokens = 0;        // at least 1, but for prefill_only
  std::string fingerprint = {};  // of the request as it came, to know it when it comes again
};

class Turn {
 public:
  explicit Turn(TurnJob j) : job(std::move(j)) {}
  const TurnJob job;

  // Any thread. After cancel() no more events are delivered.
  void cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }
  // The client has taken the answer to its end, as far as the system can tell.
  void set_delivered() { delivered_ = true; }
  bool delivered() const { return delivered_; }
  // Bytes of the answer that its reader has not taken; the scheduler pauses a turn above a limit.
  std::atomic<size_t> backlog{0};

  void put(std::vector<TurnEvent>& events) {
    const std::lock_guard lock(mutex_);
    for (TurnEvent& e : events) events_.push_back(std::move(e));
    events.clear();
  }
  std::vector<TurnEvent> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(events_, {});
  }

 private:
  std::atomic<bool> cancelled_{false}, delivered_{false};
  std::mutex mutex_;
  std::vector<TurnEvent> events_;
};

}  // namespace narwhal::serve
