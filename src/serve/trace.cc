#include "serve/trace.h"

#include <fmt/format.h>

#include <iterator>

#include "base/file.h"
#include "base/json.h"

namespace narwhal::serve {
namespace {

std::string event_line(const TurnEvent& e) {
  switch (e.kind) {
    case TurnEvent::kStarted:
      return fmt::format("started, turn {}", e.key);
    case TurnEvent::kReasoning:
      return "reasoning " + json_quote(e.text);
    case TurnEvent::kContent:
      return "content " + json_quote(e.text);
    case TurnEvent::kCallStart:
      return fmt::format("call {} {}", e.id, json_quote(e.text));
    case TurnEvent::kCallArguments:
      return "arguments " + e.text;
    case TurnEvent::kCallEnd:
      return "call ends";
    case TurnEvent::kLogprob:
      return "logprob " + e.text;
    case TurnEvent::kDone:
      return e.text.empty() ? "done" : "done at stop string " + json_quote(e.text);
    case TurnEvent::kFailed:
      return "failed: " + e.text;
  }
  return {};
}

}  // namespace

Status write_trace(const std::string& path, const Scheduler::Record& record,
                   const text::Tokenizer& tokenizer) {
  const TurnJob& job = record.turn.job;
  std::string text = fmt::format(
      "{} {}\n\n== cache\n{}\n\n== prompt ({} tokens)\n{}\n\n== written ({} tokens)\n{}\n\n== "
      "events\n",
      job.request.api, record.line, record.cache, job.tokens.size(), tokenizer.decode(job.tokens),
      record.ids.size(), tokenizer.decode(record.ids));
  for (const TurnEvent& e : record.told) {
    text += event_line(e);
    text += '\n';
  }
  NW_ASSIGN(auto file, AtomicFile::create(path));
  NW_TRY(file.write_at(0, text.data(), text.size()));
  return file.commit();
}

}  // namespace narwhal::serve
