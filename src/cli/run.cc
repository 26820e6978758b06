// narwhal run: one answer.
#include <fmt/format.h>

#include <cstdio>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/generate.h"
#include "cli/setup.h"
#include "cli/terminal.h"

namespace narwhal::cli {
namespace {

// Text tools end files and lines with a line feed that is no part of the question.
std::string without_final_newline(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

Result<std::vector<int32_t>> prompt_ids(const Args& args, const Engine& engine,
                                        const text::ChatTemplate& chat, std::string text) {
  const text::Tokenizer& tokenizer = *engine.tokenizer();
  if (args.flag("--raw")) return tokenizer.encode_special(text);
  if (!args.given("--prompt")) text = without_final_newline(std::move(text));
  NW_ASSIGN(const text::RenderOptions options, render_options(args, engine.info()));
  std::vector<text::Message> messages;
  if (!args.text("--system").empty()) {
    messages.push_back({.role = text::Role::kSystem, .content = args.text("--system")});
  }
  messages.push_back({.role = text::Role::kUser, .content = std::move(text)});
  NW_ASSIGN(const text::Prompt prompt, chat.render(std::move(messages), options));
  return text::encode_prompt(tokenizer, prompt);
}

Json answer_json(const Answer& answer, double load_ms) {
  Json j = Json::object();
  j.set("text", Json::of(answer.content));
  j.set("reasoning", Json::of(answer.reasoning));
  if (!answer.tool_calls.empty()) {
    Json calls = Json::array();
    for (const text::ToolCall& c : answer.tool_calls) {
      Json call = Json::object();
      call.set("name", Json::of(c.name));
      auto arguments = Json::parse(c.arguments);
      call.set("arguments", arguments.ok() ? *arguments : Json::of(c.arguments));
      calls.push(std::move(call));
    }
    j.set("tool_calls", std::move(calls));
  }
  j.set("prompt_tokens", Json::of(answer.prompt_tokens));
  j.set("reused_tokens", Json::of(answer.reuse.n_tokens));
  j.set("reuse_source", Json::of(std::string(source_name(answer.reuse.source))));
  j.set("restore_ms", Json::of(answer.reuse.restore_ms));
  j.set("output_tokens", Json::of(static_cast<int64_t>(answer.ids.size())));
  j.set("load_ms", Json::of(load_ms));
  j.set("prefill_ms", Json::of(answer.prefill_ms));
  j.set("decode_ms", Json::of(answer.decode_ms));
  j.set("finish_reason", Json::of(std::string(finish_name(answer.finish))));
  j.set("seed", Json::of(static_cast<int64_t>(answer.seed)));
  return j;
}

}  // namespace

Status run(const Args& args) {
  NW_ASSIGN(std::string text, input_text(args));
  if (text.empty() && !args.given("--prompt") && !args.given("--file")) {
    return usage("standard input is empty; give -p TEXT, -f FILE or text on standard input");
  }
  AnswerOptions options;
  NW_ASSIGN(options.sampling, sampling_options(args));
  options.max_tokens = args.integer("--max-tokens");

  const Stopwatch load;
  NW_ASSIGN(const auto engine, open_talking_engine(args));
  NW_ASSIGN(const auto chat, text::ChatTemplate::create(*engine->tokenizer()));
  NW_ASSIGN(const auto session, engine->new_session());
  const double load_ms = load.ms();
  NW_ASSIGN(const auto prompt, prompt_ids(args, *engine, chat, std::move(text)));

  const bool json = args.flag("--json");
  const InterruptGuard guard(/*second_ends=*/true);
  AnswerPrinter printer;
  AnswerEvents events;
  events.cancelled = InterruptGuard::interrupted;
  if (!json) {
    events.reasoning = [&](std::string_view s) { printer.reasoning(s); };
    events.content = [&](std::string_view s) { printer.content(s); };
  }
  const Generator generator(*engine->tokenizer(), chat.controls());
  auto answer = generator.answer(*session, prompt, options, events);
  if (!answer.ok()) {
    printer.finish();
    return answer.status();
  }
  if (json) {
    fmt::print("{}\n", answer_json(*answer, load_ms).dump());
  } else {
    printer.content(tool_calls_text(chat.controls(), *answer));
    printer.finish();
  }
  fmt::print(stderr, "{}; loaded in {:.0f} ms\n", describe_speed(*answer), load_ms);
  if (answer->finish == Finish::kLength && is_full(*session)) {
    fmt::print(stderr, "narwhal: the context of {} tokens is full; give a larger --ctx\n",
               session->n_ctx());
  }
  return answer->finish == Finish::kCancelled ? cancelled() : ok_status();
}

}  // namespace narwhal::cli
