// narwhal chat: a conversation in the terminal, or line by line from a pipe.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/generate.h"
#include "cli/line_reader.h"
#include "cli/setup.h"
#include "cli/terminal.h"

namespace narwhal::cli {
namespace {

constexpr std::string_view kHelp =
    "/think, /nothink   reason before answering, or answer at once\n"
    "/ctx               tokens used and left\n"
    "/read FILE         send the text of a file\n"
    "/save FILE         write the conversation as JSON, and the model's state to FILE.state\n"
    "/load FILE         go on with a saved conversation; without its state it is read again\n"
    "/stats             speed of the last answer\n"
    "/quit              end (also Ctrl+D); Ctrl+C stops an answer\n";

struct Chat {
  Session& session;
  const text::ChatTemplate& chat;
  Generator generator;
  AnswerOptions options;
  Conversation talk;
  std::string stats = "no answer yet";

  Status ask(const std::string& user);
  Status command(const std::string& line, bool& quit);
  Status save(const std::string& path) const;
  Status load(const std::string& path);
};

Status Chat::ask(const std::string& user) {
  NW_TRY(check_utf8(user).within("the message"));
  NW_ASSIGN(std::vector<int32_t> prompt, talk.prompt_for(user));
  const InterruptGuard guard(/*second_ends=*/false);
  AnswerPrinter printer;
  AnswerEvents events;
  events.reasoning = [&](std::string_view s) { printer.reasoning(s); };
  events.content = [&](std::string_view s) { printer.content(s); };
  events.cancelled = InterruptGuard::interrupted;
  auto answer = generator.answer(session, prompt, options, events);
  if (answer.ok()) printer.content(tool_calls_text(chat.controls(), *answer));
  printer.finish();
  NW_TRY(answer.status());
  if (answer->finish == Finish::kLength && is_full(session)) {
    fmt::print(stderr, "narwhal: the context of {} tokens is full; start again with --ctx\n",
               session.n_ctx());
  }
  talk.add(user, std::move(prompt), *answer);
  stats = describe_speed(*answer);
  return ok_status();
}

std::string state_path(const std::string& path) { return path + ".state"; }

Status Chat::save(const std::string& path) const {
  const std::string json = talk.to_json();
  NW_ASSIGN(AtomicFile file, AtomicFile::create(path));
  NW_TRY(file.write_at(0, json.data(), json.size()));
  NW_TRY(file.commit());
  return session.tokens().empty() ? ok_status() : session.snapshot(state_path(path));
}

Status Chat::load(const std::string& path) {
  NW_ASSIGN(const std::string json, read_text(path));
  NW_TRY(talk.load_json(json).within(path));
  std::error_code none;
  if (!std::filesystem::exists(state_path(path), none)) return ok_status();
  // What the state does not agree with is read again, so a stale or foreign one does no harm.
  if (const Status state = session.restore(state_path(path)); !state.ok())
    fmt::print(stderr, "narwhal: {}; the conversation will be read again\n", state.message());
  return ok_status();
}

Status Chat::command(const std::string& line, bool& quit) {
  const size_t blank = line.find(' ');
  const std::string name = line.substr(0, blank);
  const size_t start = blank == line.npos ? blank : line.find_first_not_of(' ', blank);
  const std::string path = start == line.npos ? "" : line.substr(start);
  if (name == "/read" || name == "/save" || name == "/load") {
    if (path.empty()) return usage(fmt::format("{} needs a file name", name));
    if (name == "/save") return save(path);
    if (name == "/load") return load(path);
    NW_ASSIGN(const std::string text, read_text(path));
    return ask(text);
  }
  if (name == "/quit" || name == "/exit") {
    quit = true;
  } else if (name == "/think" || name == "/nothink") {
    talk.set_thinking(name == "/think");
  } else if (name == "/ctx") {
    fmt::print(stderr, "{} of {} tokens used, {} left, {} messages\n", talk.n_tokens(),
               session.n_ctx(), session.n_ctx() - talk.n_tokens(), talk.n_messages());
  } else if (name == "/stats") {
    fmt::print(stderr, "{}\n", stats);
  } else if (name == "/help") {
    fmt::print(stderr, "{}", kHelp);
  } else {
    return usage(fmt::format("unknown command {}; /help lists them", name));
  }
  return ok_status();
}

}  // namespace

Status chat(const Args& args) {
  AnswerOptions options;
  NW_ASSIGN(options.sampling, sampling_options(args));
  options.max_tokens = args.integer("--max-tokens");
  NW_ASSIGN(const auto engine, open_talking_engine(args));
  const text::Tokenizer& tokenizer = *engine->tokenizer();
  NW_ASSIGN(const auto chat, text::ChatTemplate::create(tokenizer));
  NW_ASSIGN(const text::RenderOptions render, render_options(args, engine->info()));
  NW_ASSIGN(const auto session, engine->new_session());
  Chat state{*session, chat, Generator(tokenizer, chat.controls()), options,
             Conversation(tokenizer, chat, render, args.text("--system"))};

  LineReader reader;
  if (reader.on_terminal()) {
    fmt::print(stderr, "{}, context {} tokens. /help lists the commands.\n", engine->info().name,
               session->n_ctx());
  }
  for (bool quit = false; !quit;) {
    const auto line = reader.read();
    if (!line) {
      if (reader.on_terminal()) fmt::print("\n");
      break;
    }
    if (line->empty()) continue;
    Status status = line->front() == '/' ? state.command(*line, quit) : state.ask(*line);
    if (status.ok()) continue;
    // A person reads the message and goes on; a script must notice.
    if (!reader.on_terminal()) return status;
    fmt::print(stderr, "narwhal: {}\n", status.message());
  }
  return ok_status();
}

}  // namespace narwhal::cli
