#include "serve/api/api.h"

#include <fmt/format.h>

#include <algorithm>

#include "serve/random_id.h"
#include "text/detokenizer.h"

namespace narwhal::serve {
namespace {

bool is_path(std::string_view s) {
  return !s.empty() && s.size() < 120 && std::all_of(s.begin(), s.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '[' ||
           c == ']';
  });
}

std::string_view openai_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

std::string_view anthropic_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

Json or_null(const std::string& s) { return s.empty() ? Json() : Json::of(s); }

// A message may quote a path or a header, which are any bytes.
Json message_of(const ApiError& e) { return Json::of(text::to_utf8(e.message)); }

}  // namespace

ApiError error_of(const Status& status) {
  ApiError e;
  e.message = status.message();
  const size_t colon = e.message.find(": ");
  if (colon != e.message.npos && is_path(std::string_view(e.message).substr(0, colon)))
    e.param = e.message.substr(0, colon);
  if (e.message.find("not supported") != e.message.npos) e.code = "unsupported_content";
  if (e.param == "previous_response_id" && e.message.find("was not found") != e.message.npos) {
    e.status = 404;
    e.code = "previous_response_not_found";
  }
  return e;
}

ApiError context_error(int64_t n_prompt, int64_t n_ctx) {
  ApiError e;
  e.message = fmt::format(
      "This model's maximum context length is {} tokens. However, your messages resulted in {} "
      "tokens. Please reduce the length of the messages.",
      n_ctx, n_prompt);
  e.param = "messages";
  e.code = "context_length_exceeded";
  e.extra.set("n_prompt_tokens", Json::of(n_prompt));
  e.extra.set("n_ctx", Json::of(n_ctx));
  return e;
}

std::string openai_error(const ApiError& e) {
  Json inner = Json::object();
  inner.set("message", message_of(e));
  inner.set("type", Json::of(std::string(openai_type(e.status))));
  inner.set("param", or_null(e.param));
  inner.set("code", or_null(e.code));
  for (const auto& [name, value] : e.extra.members) inner.set(name, value);
  Json out = Json::object();
  out.set("error", std::move(inner));
  return out.dump();
}

std::string anthropic_error(const ApiError& e) {
  Json inner = Json::object();
  inner.set("type", Json::of(std::string(anthropic_type(e.status))));
  // Clients compare the two numbers of this sentence.
  const Json& n = e.extra["n_prompt_tokens"];
  inner.set("message", n.is_null()
                           ? message_of(e)
                           : Json::of(fmt::format("prompt is too long: {} tokens > {} maximum",
                                                  n.text, e.extra["n_ctx"].text)));
  Json out = Json::object();
  out.set("type", Json::of("error"));
  out.set("error", std::move(inner));
  out.set("request_id", Json::of("req_" + random_hex(12)));
  return out.dump();
}

void ReplyForm::event(const TurnEvent& e, std::string& out) {
  switch (e.kind) {
    case TurnEvent::kStarted:
      answer_.usage = e.usage;
      answer_.key = e.key;
      break;
    case TurnEvent::kReasoning:
      answer_.reasoning += e.text;
      break;
    case TurnEvent::kContent:
      answer_.content += e.text;
      break;
    case TurnEvent::kCallStart:
      answer_.calls.push_back({e.id, e.text, {}});
      break;
    case TurnEvent::kCallArguments:
      answer_.calls.back().arguments += e.text;
      break;
    case TurnEvent::kLogprob:
      (e.in_reasoning ? answer_.reasoning_logprobs : answer_.logprobs).push_back(e.text);
      break;
    case TurnEvent::kDone:
      answer_.usage = e.usage;
      answer_.timings = e.timings;
      answer_.finish = e.finish;
      answer_.stop = e.text;
      // Arguments that a limit cut off are no JSON: a whole reply drops the call.
      if (!streaming && !answer_.calls.empty() && !Json::parse(answer_.calls.back().arguments).ok())
        answer_.calls.pop_back();
      break;
    case TurnEvent::kCallEnd:
    case TurnEvent::kFailed:
      break;
  }
  if (streaming) stream_event(e, out);
}

void add_sse(std::string& out, std::string_view name, std::string_view json) {
  if (!name.empty()) fmt::format_to(std::back_inserter(out), "event: {}\n", name);
  out += "data: ";
  out += json;
  out += "\n\n";
}

Json timings_json(const Usage& usage, const Timings& t) {
  const auto rate = [](double n, double ms) { return ms > 0 ? n * 1000 / ms : 0.0; };
  const auto n_prompt = usage.prompt - usage.cached;
  Json j = Json::object();
  j.set("cache_n", Json::of(usage.cached));
  j.set("prompt_n", Json::of(n_prompt));
  j.set("prompt_ms", Json::of(t.prefill_ms));
  j.set("prompt_per_second", Json::of(rate(double(n_prompt), t.prefill_ms)));
  j.set("predicted_n", Json::of(usage.completion));
  j.set("predicted_ms", Json::of(t.decode_ms));
  j.set("predicted_per_second", Json::of(rate(double(usage.completion), t.decode_ms)));
  j.set("queue_ms", Json::of(t.queue_ms));
  return j;
}

std::string openai_finish(Finish finish) {
  switch (finish) {
    case Finish::kToolCalls:
      return "tool_calls";
    case Finish::kLength:
      return "length";
    default:
      return "stop";
  }
}

}  // namespace narwhal::serve
