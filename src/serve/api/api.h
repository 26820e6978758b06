// What every API has in common: a body becomes a TurnRequest, and the events of the turn become a
// body or a stream in the API's own form. The files beside this one translate, nothing else.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "narwhal/status.h"
#include "serve/http/message.h"
#include "serve/turn.h"
#include "text/chat.h"

namespace narwhal::serve {

class ResponseStore;

// What requests are measured against.
struct ApiContext {
  std::string model = "deepseek-v4-flash";  // the name that is listed
  int64_t n_ctx = 0;
  int64_t n_vocab = 0;
  int64_t default_max_tokens = 0;  // 0 = the rest of the context
  SamplingOptions sampling{.temperature = 1, .top_p = 1, .min_p = 0.05f};
  text::Effort effort = text::Effort::kHigh;
  bool thinking = true;            // when the client does not say
  bool anthropic_thinking = true;  // likewise, for /v1/messages
  const text::ChatTemplate* chat = nullptr;
  ResponseStore* responses = nullptr;  // null: none is kept
};

// A fault as the client is told. `param` is the member at fault; may be empty.
struct ApiError {
  int status = 400;
  std::string message, param = {}, code = {};
  Json extra = {};  // members added to the OpenAI form
};
// The path before the first ": " of a message becomes the param. A previous response that is not
// known is a 404.
ApiError error_of(const Status& status);
ApiError context_error(int64_t n_prompt, int64_t n_ctx);
// Bodies in the two forms of error objects.
std::string openai_error(const ApiError& error);
std::string anthropic_error(const ApiError& error);

// The answer as far as it has come.
struct Answer {
  std::string reasoning, content;
  std::vector<text::ToolCall> calls;
  std::vector<std::string> logprobs, reasoning_logprobs;  // JSON objects
  Usage usage;
  Timings timings;
  Finish finish = Finish::kStop;
  std::string stop, key;
};

// The form of one reply. Feed it every event, in order; IO thread only.
class ReplyForm {
 public:
  virtual ~ReplyForm() = default;

  // Appends what the event adds to the stream; nothing when `streaming` is off.
  void event(const TurnEvent& e, std::string& out);

  // Appends the first bytes of a stream, before anything is computed.
  virtual void begin(std::string& out) = 0;
  // Appends what keeps the client's patience; `n` counts them.
  virtual void keep_alive(int n, std::string& out) = 0;
  // An error after the stream has begun, and the stream's end.
  virtual void stream_error(const ApiError& error, std::string& out) = 0;
  // The whole reply, after kDone.
  virtual std::string body() = 0;
  virtual std::string error_body(const ApiError& error) const { return openai_error(error); }

  const Answer& answer() const { return answer_; }
  bool streaming = false;

 protected:
  // `answer_` holds the event already.
  virtual void stream_event(const TurnEvent& e, std::string& out) = 0;
  Answer answer_;
};

struct ParsedTurn {
  TurnRequest request;
  std::unique_ptr<ReplyForm> form;
};

// kBadInput: "member: found ..., expected ...".
Result<ParsedTurn> parse_chat(const Json& body, const ApiContext& context);
Result<ParsedTurn> parse_completions(const Json& body, const ApiContext& context);
Result<ParsedTurn> parse_messages(const Json& body, const ApiContext& context);
Result<ParsedTurn> parse_responses(const Json& body, const ApiContext& context);

// ---- shared by the translators

// One event of a stream: "event: NAME" (unless empty) and "data: JSON".
void add_sse(std::string& out, std::string_view name, std::string_view json);
Json timings_json(const Usage& usage, const Timings& timings);
std::string openai_finish(Finish finish);

}  // namespace narwhal::serve
