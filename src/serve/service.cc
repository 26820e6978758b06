#include "serve/service.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <cstdio>

#include "base/file.h"
#include "serve/api/fields.h"
#include "serve/api/responses_store.h"
#include "serve/formats.h"
#include "serve/info.h"
#include "serve/live_turns.h"
#include "serve/prompter.h"
#include "serve/reminder.h"
#include "serve/routes.h"
#include "serve/trace.h"
#include "serve/workers.h"

namespace narwhal::serve {
namespace {

constexpr int kMaxJsonDepth = 256;

using ExchangePtr = std::shared_ptr<Exchange>;
using Parse = Result<ParsedTurn> (*)(const Json&, const ApiContext&);

// Nesting is counted on the text, so that the parser never sees too deep a body.
bool is_too_deep(std::string_view json) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); i++) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') i++;
      in_string = c != '"';
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') depth++;
    if (c == '}' || c == ']') depth--;
    if (depth > kMaxJsonDepth) return true;
  }
  return false;
}

Result<Json> parse_body(const std::string& body) {
  if (const Status utf8 = check_utf8(body); !utf8.ok())
    return bad_input(fmt::format("the body is not UTF-8: {}", utf8.message()));
  if (is_too_deep(body))
    return bad_input(fmt::format("the body nests deeper than {} levels", kMaxJsonDepth));
  NW_ASSIGN(Json json, Json::parse(body));
  if (!json.is_object()) return bad_input("the body is no JSON object");
  return json;
}

// Two requests with the same one are the same request, sent twice.
std::string fingerprint(const HttpRequest& request) {
  return fmt::format("{} {} {} {}", request.path, request.header("authorization"),
                     request.header("x-api-key"),
                     XXH3_64bits(request.body.data(), request.body.size()));
}

class LoadedService : public Service {
 public:
  LoadedService(Engine& engine, ServeOptions options, text::ChatTemplate chat)
      : engine_(engine),
        options_(std::move(options)),
        tokenizer_(*engine.tokenizer()),
        chat_(std::move(chat)),
        vocabulary_(tokenizer_, chat_.controls()),
        memory_(engine.store()),
        prompter_(tokenizer_, chat_,
                  engine.info().prompt_profile == "0731" ? text::PromptProfile::k0731
                                                         : text::PromptProfile::kPreview,
                  memory_),
        headers_(options_.access.cors
                     ? Headers{{"Access-Control-Allow-Origin", "*"},
                               {"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
                               {"Access-Control-Allow-Headers",
                                "Content-Type, Authorization, X-Api-Key, Anthropic-Version, "
                                "Anthropic-Beta"}}
                     : Headers{}),
        live_(options_.keep_alive_s, headers_) {
    options_.api.chat = &chat_;
    options_.api.responses = &responses_;
    options_.api.n_ctx = engine.plan().n_ctx;
    options_.api.n_vocab = tokenizer_.vocab_size();
  }

  Status listen() {
    NW_ASSIGN(server_,
              HttpServer::open(
                  options_.http, [this](const ExchangePtr& x) { handle(x); },
                  [](std::string_view path, int status, std::string_view message) {
                    return HttpReply{status, error_body(path, {status, std::string(message)})};
                  }));
    scheduler_ = std::make_unique<Scheduler>(
        engine_, vocabulary_, memory_, metrics_, options_.scheduler,
        [this](std::vector<std::shared_ptr<Turn>> turns) {
          server_->post([this, turns = std::move(turns)] { live_.update(turns); });
        },
        [this](const Scheduler::Record& record) { log(record); });
    workers_ = std::make_unique<Workers>(2);
    return ok_status();
  }

  ~LoadedService() override {
    workers_.reset();
    if (scheduler_) scheduler_->stop();
    server_.reset();
  }

  int port() const override { return server_->port(); }
  void run() override { server_->run(); }
  void stop() override {
    server_->post([this] { stopping_ = true; });
    scheduler_->stop();
    server_->stop(/*grace_ms=*/2000);
  }
  const Metrics& metrics() const override { return metrics_; }
  const TurnMemory& turn_memory() const override { return memory_; }

 private:
  static std::string error_body(std::string_view path, const ApiError& error) {
    return is_anthropic(path) ? anthropic_error(error) : openai_error(error);
  }

  void reply(const ExchangePtr& x, std::string body, std::string type = "application/json") const {
    x->reply({200, std::move(body), std::move(type), headers_});
  }
  void refuse(const ExchangePtr& x, const ApiError& error) const {
    Headers h = headers_;
    if (error.status == 405) h.emplace_back("Allow", "GET, POST, OPTIONS");
    x->reply(
        {error.status, error_body(x->request().path, error), "application/json", std::move(h)});
  }

  void handle(const ExchangePtr& x) {
    const HttpRequest& request = x->request();
    const Match match = find_route(request.method, request.path);
    std::string why;
    const bool preflight = request.method == "OPTIONS";
    if (const int status = check_access(options_.access, request,
                                        match.route != Route::kHealth && !preflight, why))
      return refuse(x, {status, why, "", status == 401 ? "invalid_api_key" : ""});
    if (preflight) return x->reply({204, "", "", headers_});
    if (stopping_) return refuse(x, {503, "the server is shutting down"});
    if (!answer_now(x, match)) answer_later(x, match.route);
  }

  // What needs no work. False when the request needs some.
  bool answer_now(const ExchangePtr& x, const Match& match) {
    const ApiContext& api = options_.api;
    switch (match.route) {
      case Route::kUnknown:
        refuse(x, {404, fmt::format("there is no {}", x->request().path)});
        return true;
      case Route::kWrongMethod:
        refuse(x,
               {405, fmt::format("{} does not answer {}", x->request().path, x->request().method)});
        return true;
      case Route::kNotGenerative:
        refuse(x, {501, "this model writes text; embeddings and ranking are not supported"});
        return true;
      case Route::kRoot:
        reply(x,
              fmt::format("Narwhal serves {}. The API is below /v1; see docs/clients.md.\n",
                          api.model),
              "text/plain; charset=utf-8");
        return true;
      case Route::kHealth:
        reply(x, R"({"status": "ok"})");
        return true;
      case Route::kMetrics:
        reply_metrics(x);
        return true;
      case Route::kModels:
        reply(x, models_json(api));
        return true;
      case Route::kModel:
        if (match.rest == api.model)
          reply(x, model_json(api));
        else
          refuse(x, {404, fmt::format("there is no model {}", json_quote(match.rest)), "model",
                     "model_not_found"});
        return true;
      case Route::kProps:
        reply(x, props_json(api, engine_.info(), options_.scheduler.n_sessions));
        return true;
      case Route::kSlots:
        reply(x, slots_json(api, scheduler_->slots()));
        return true;
      default:
        return false;
    }
  }

  void reply_metrics(const ExchangePtr& x) {
    metrics_.connections = server_->n_connections();
    metrics_.io_us = thread_cpu_us();
    std::optional<KvStats> store;
    if (engine_.store()) store = engine_.store()->stats();
    reply(x, metrics_.text(store ? &*store : nullptr), "text/plain; version=0.0.4; charset=utf-8");
  }

  void answer_later(const ExchangePtr& x, Route route) {
    workers_->run([this, x, route] {
      if (x->gone()) return;
      const Status status = work(x, route);
      if (status.ok()) return;
      ApiError error = error_of(status);
      if (status.code() == Code::kNoMemory || status.code() == Code::kFailed) error.status = 500;
      x->post([this, x, error] { refuse(x, error); });
    });
  }

  // On a worker.
  Status work(const ExchangePtr& x, Route route) {
    NW_ASSIGN(const Json body, parse_body(x->request().body));
    switch (route) {
      case Route::kChat:
        return turn(x, body, parse_chat, "chat");
      case Route::kCompletions:
        return turn(x, body, parse_completions, "completions");
      case Route::kMessages:
        return turn(x, body, parse_messages, "messages");
      case Route::kResponses:
        return turn(x, body, parse_responses, "responses");
      case Route::kCountMessages:
        return count(x, body, parse_messages);
      case Route::kCountChat:
        return count(x, body, parse_chat);
      case Route::kCountResponses:
        return count(x, body, parse_responses);
      case Route::kTokenize:
        return whole(x, tokenize_json(body, tokenizer_));
      case Route::kDetokenize:
        return whole(x, detokenize_json(body, tokenizer_));
      case Route::kApplyTemplate: {
        NW_ASSIGN(ParsedTurn parsed, parse_chat(body, options_.api));
        NW_ASSIGN(const TurnJob job, prompter_.job(std::move(parsed.request)));
        Json out = Json::object();
        out.set("prompt", Json::of(text::to_utf8(tokenizer_.decode(job.tokens))));
        return whole(x, out.dump());
      }
      default:
        return failed("no handler");
    }
  }

  Status whole(const ExchangePtr& x, Result<std::string> body) {
    NW_TRY(body.status());
    x->post([this, x, text = *std::move(body)] { reply(x, text); });
    return ok_status();
  }

  Status count(const ExchangePtr& x, const Json& body, Parse parse) {
    NW_ASSIGN(ParsedTurn parsed, parse(body, options_.api));
    add_reminders(parsed.request, options_.tool_reminder, tokenizer_);
    NW_ASSIGN(const TurnJob job, prompter_.job(std::move(parsed.request)));
    return whole(x, fmt::format(R"({{"input_tokens": {}}})", job.tokens.size()));
  }

  Status turn(const ExchangePtr& x, const Json& body, Parse parse, const char* api) {
    NW_ASSIGN(ParsedTurn parsed, parse(body, options_.api));
    parsed.request.api = api;
    if (!parsed.request.response_format.is_null() && !options_.soft_response_format) {
      auto constraint = formats_.compile(parsed.request.response_format);
      if (!constraint.ok())
        return bad_input(fmt::format("response_format: {}", constraint.status().message()));
      parsed.request.constraint = *constraint;
    }
    NW_TRY(formats_.add_call_grammar(parsed.request, vocabulary_.controls.dsml.id));
    parsed.request.call_retries = options_.call_retries;
    parsed.request.loop_tokens = options_.loop_tokens;
    if (options_.script) parsed.request.script = options_.script->find(parsed.request);
    add_reminders(parsed.request, options_.tool_reminder, tokenizer_);
    if (parsed.request.client.empty()) parsed.request.client = x->request().header("x-session-id");
    NW_ASSIGN(TurnJob job, prompter_.job(std::move(parsed.request)));
    const int64_t n = std::ssize(job.tokens), n_ctx = options_.api.n_ctx;
    if (n >= n_ctx) {
      x->post([this, x, n, n_ctx] { refuse(x, context_error(n, n_ctx)); });
      return ok_status();
    }
    const int64_t room = n_ctx - n;
    job.max_tokens = job.max_tokens > 0 ? std::min(job.max_tokens, room) : room;
    job.fingerprint = fingerprint(x->request());
    // std::function wants what it holds to be copyable.
    auto form = std::make_shared<std::unique_ptr<ReplyForm>>(std::move(parsed.form));
    auto made = std::make_shared<Turn>(std::move(job));
    x->post([this, x, made, form] { live_.add(*scheduler_, x, made, std::move(*form)); });
    return ok_status();
  }

  // On the scheduler's thread.
  void log(const Scheduler::Record& record) {
    n_logged_++;
    if (!options_.quiet)
      fmt::print(stderr, "{:6} {:11} {}\n", n_logged_, record.turn.job.request.api, record.line);
    if (options_.trace_dir.empty()) return;
    const Status status = write_trace(
        fmt::format("{}/turn-{:06}.txt", options_.trace_dir, n_logged_), record, tokenizer_);
    if (status.ok()) return;
    fmt::print(stderr, "narwhal: {}; tracing ends\n", status.message());
    options_.trace_dir.clear();
  }

  Engine& engine_;
  ServeOptions options_;
  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate chat_;
  const Vocabulary vocabulary_;
  Formats formats_{tokenizer_};
  ResponseStore responses_;
  TurnMemory memory_;
  const Prompter prompter_;
  const Headers headers_;
  LiveTurns live_;
  Metrics metrics_;
  bool stopping_ = false;
  int64_t n_logged_ = 0;
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<Workers> workers_;
};

}  // namespace

Result<std::unique_ptr<Service>> Service::open(Engine& engine, ServeOptions options) {
  if (!engine.tokenizer())
    return bad_input(fmt::format("{}: the file has no tokenizer; convert it again with --tokenizer",
                                 engine.info().path));
  NW_ASSIGN(text::ChatTemplate chat, text::ChatTemplate::create(*engine.tokenizer()));
  auto service = std::make_unique<LoadedService>(engine, std::move(options), std::move(chat));
  NW_TRY(service->listen());
  return std::unique_ptr<Service>(std::move(service));
}

}  // namespace narwhal::serve
