// POST /v1/completions: raw text in, raw text out; with "suffix", what stands between the two.
#include <fmt/format.h>

#include "serve/api/common.h"
#include "serve/random_id.h"

namespace narwhal::serve {
namespace {

class CompletionForm : public ReplyForm {
 public:
  CompletionForm(const std::string& model, bool include_usage, bool logprobs)
      : head_(fmt::format(
            R"({{"id": "cmpl-{}", "object": "text_completion", "created": {}, "model": {}, )",
            random_hex(12), std::time(nullptr), Json::of(model).dump())),
        include_usage_(include_usage),
        logprobs_(logprobs) {}

  void begin(std::string&) override {}
  void keep_alive(int n, std::string& out) override {
    out += ": keep-alive\n\n";
    if (n % 3 == 0) piece("", "null", out);
  }
  void stream_error(const ApiError& error, std::string& out) override {
    add_sse(out, "", openai_error(error));
  }
  std::string body() override {
    return fmt::format(
        R"({}"choices": [{}], "usage": {}, "timings": {}}})", head_,
        choice(answer_.content, fmt::format("\"{}\"", openai_finish(answer_.finish))), usage_json(),
        timings_json(answer_.usage, answer_.timings).dump());
  }

 protected:
  void stream_event(const TurnEvent& e, std::string& out) override {
    if (e.kind == TurnEvent::kContent) piece(e.text, "null", out);
    if (e.kind != TurnEvent::kDone) return;
    piece("", fmt::format("\"{}\"", openai_finish(answer_.finish)), out);
    if (include_usage_)
      add_sse(out, "", fmt::format(R"({}"choices": [], "usage": {}}})", head_, usage_json()));
    out += "data: [DONE]\n\n";
  }

 private:
  std::string usage_json() const {
    const Usage& u = answer_.usage;
    return fmt::format(
        R"({{"prompt_tokens": {}, "completion_tokens": {}, "total_tokens": {}, "prompt_tokens_details": {{"cached_tokens": {}}}}})",
        u.prompt, u.completion, u.prompt + u.completion, u.cached);
  }
  std::string choice(std::string_view text, std::string_view finish) {
    std::string logprobs = "null";
    if (logprobs_) {
      const std::span all(answer_.logprobs);
      logprobs = fmt::format(R"({{"content": [{}]}})", fmt::join(all.subspan(n_sent_), ", "));
      n_sent_ = all.size();
    }
    return fmt::format(R"({{"text": {}, "index": 0, "logprobs": {}, "finish_reason": {}}})",
                       json_quote(text), logprobs, finish);
  }
  void piece(std::string_view text, std::string_view finish, std::string& out) {
    add_sse(out, "", fmt::format(R"({}"choices": [{}]}})", head_, choice(text, finish)));
  }

  const std::string head_;
  const bool include_usage_, logprobs_;
  size_t n_sent_ = 0;
};

Status read_prompt(Fields& in, const ApiContext& context, TurnRequest& r) {
  const Json* prompt = &in["prompt"];
  if (prompt->is_array() && prompt->items.size() == 1 && !prompt->items[0].is_number())
    prompt = &prompt->items[0];
  if (prompt->is_array()) {
    for (const Json& id : prompt->items) {
      const int64_t v = id.as_int(-1);
      if (!id.is_number() || v < 0 || v >= context.n_vocab)
        return bad_input(fmt::format(
            "prompt: found {}; expected one string or token ids below {} (several prompts in one "
            "request are not supported)",
            id.is_number() ? id.dump() : "an array of prompts", context.n_vocab));
      r.prompt_ids.push_back(static_cast<int32_t>(v));
    }
    if (r.prompt_ids.empty())
      return bad_input("prompt: an empty array, expected text or token ids");
    return ok_status();
  }
  if (!prompt->is_string()) return bad_input("prompt: expected a string or an array of token ids");
  const std::string suffix = in.text("suffix");
  if (!suffix.empty()) {
    NW_ASSIGN(r.prompt, context.chat->fill_in_middle(prompt->text, suffix));
  } else {
    r.prompt = context.chat->raw(prompt->text);
  }
  return ok_status();
}

}  // namespace

Result<ParsedTurn> parse_completions(const Json& body, const ApiContext& context) {
  Fields in(body);
  ParsedTurn out;
  TurnRequest& r = out.request;
  NW_TRY(read_prompt(in, context, r));
  r.thinking = false;
  read_sampling(in, context, r);
  read_stop(in, "stop", r);
  read_limit(in, "max_tokens", context, false, r);
  in.only_default("n", Json::of(int64_t{1}));
  in.only_default("best_of", Json::of(int64_t{1}));
  in.only_default("echo", Json::of(false));
  const int64_t logprobs = in.integer("logprobs", -1, 0, 20);
  r.n_logprobs = static_cast<int>(logprobs);
  r.client = in.text("user");
  const std::string model = in.text("model", context.model);
  const bool stream = in.boolean("stream", false);
  NW_TRY(in.status());
  out.form = std::make_unique<CompletionForm>(
      model, in["stream_options"]["include_usage"].as_bool(), logprobs >= 0);
  out.form->streaming = stream;
  return out;
}

}  // namespace narwhal::serve
