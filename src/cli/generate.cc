#include "cli/generate.h"

#include <fmt/format.h>

#include "base/progress.h"
#include "cli/setup.h"

namespace narwhal::cli {
namespace {

void take(const text::OutputParser::Events& parsed, const AnswerEvents& events, Answer& answer) {
  for (const text::OutputEvent& e : parsed) {
    switch (e.kind) {
      case text::OutputEvent::kReasoning:
        answer.reasoning += e.text;
        if (events.reasoning) events.reasoning(e.text);
        break;
      case text::OutputEvent::kContent:
        answer.content += e.text;
        if (events.content) events.content(e.text);
        break;
      case text::OutputEvent::kToolCall:
        answer.tool_calls.push_back(e.call);
        break;
      case text::OutputEvent::kBadCall:  // shown as the model wrote it
        answer.content += e.raw;
        if (events.content) events.content(e.raw);
        break;
      case text::OutputEvent::kEnd:
        break;
    }
  }
}

}  // namespace

std::string_view finish_name(Finish finish) {
  switch (finish) {
    case Finish::kStop:
      return "stop";
    case Finish::kLength:
      return "length";
    case Finish::kToolCalls:
      return "tool_calls";
    case Finish::kCancelled:
      return "cancelled";
  }
  return "";
}

std::string tool_calls_text(const text::Controls& controls, const Answer& answer) {
  text::Prompt block;
  text::render_tool_calls(block, controls, answer.tool_calls);
  std::string shown = text::to_string(block);
  if (answer.content.empty()) shown.erase(0, shown.find_first_not_of('\n'));
  return shown;
}

bool is_full(const Session& session) {
  return static_cast<int64_t>(session.tokens().size()) >= session.n_ctx();
}

std::vector<int32_t> Generator::banned(int64_t n_vocab) const {
  const text::Controls& c = controls_;
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < n_vocab; id++) {
    const bool structure = id == c.think.id || id == c.end_think.id || id == c.dsml.id ||
                           id == c.eos.id || id == c.user.id || id == c.assistant.id;
    // A model may have more rows than its vocabulary has tokens.
    const bool is_text =
        id < tokenizer_.vocab_size() && !tokenizer_.is_control(id) && id != tokenizer_.pad();
    if (!structure && !is_text) ids.push_back(id);
  }
  return ids;
}

Status Generator::decode(Session& session, const AnswerOptions& options, const AnswerEvents& events,
                         text::OutputParser& parser, Answer& answer) const {
  Sampler sampler(options.sampling);
  answer.seed = sampler.seed();
  for (;;) {
    NW_ASSIGN(const int32_t id, sampler.sample(session.prediction()));
    sampler.accept(id);
    answer.ids.push_back(id);
    take(parser.push(id), events, answer);
    answer.finish = Finish::kStop;
    if (parser.done()) break;
    answer.finish = Finish::kLength;
    if (static_cast<int64_t>(answer.ids.size()) == options.max_tokens) break;
    if (is_full(session)) break;
    answer.finish = Finish::kCancelled;
    if (events.cancelled && events.cancelled()) break;
    NW_TRY(session.append({&id, 1}));
  }
  answer.in_reasoning = parser.in_reasoning();
  take(parser.finish(), events, answer);
  if (answer.finish == Finish::kStop && !answer.tool_calls.empty()) {
    answer.finish = Finish::kToolCalls;
  }
  return ok_status();
}

Result<Answer> Generator::answer(Session& session, std::span<const int32_t> prompt,
                                 AnswerOptions options, const AnswerEvents& events) const {
  Answer answer;
  answer.prompt_tokens = static_cast<int64_t>(prompt.size());
  if (prompt.empty()) return usage("the prompt is empty; give some text");
  if (answer.prompt_tokens > session.n_ctx()) {
    return usage(
        fmt::format("the prompt has {} tokens, the context holds {}; give a shorter prompt"
                    " or --ctx {} or more",
                    prompt.size(), session.n_ctx(), prompt.size() + 1));
  }
  const Stopwatch prefill;
  Status status;
  {
    Progress bar("reading the prompt", answer.prompt_tokens);
    status = session.sync(prompt, [&](int64_t done, int64_t) {
      bar.update(done);
      return !(events.cancelled && events.cancelled());
    });
  }
  answer.prefill_ms = prefill.ms();
  answer.reuse = session.reuse();
  if (status.code() == Code::kCancelled) {
    answer.finish = Finish::kCancelled;
    answer.in_reasoning = prompt.back() == controls_.think.id;
    return answer;
  }
  NW_TRY(status);

  const auto more = banned(static_cast<int64_t>(session.logits().size()));
  options.sampling.banned.insert(options.sampling.banned.end(), more.begin(), more.end());
  text::OutputParser parser(tokenizer_, controls_, prompt.back() == controls_.think.id);
  const Stopwatch decoding;
  NW_TRY(decode(session, options, events, parser, answer));
  answer.decode_ms = decoding.ms();
  session.mark(Mark::kTurnEnd);  // the next turn goes on from here
  return answer;
}

std::string_view source_name(Reuse::Source source) {
  switch (source) {
    case Reuse::Source::kLive:
      return "live";
    case Reuse::Source::kMemory:
      return "ram";
    case Reuse::Source::kDisk:
      return "disk";
    default:
      return "none";
  }
}

std::string describe_speed(const Answer& a) {
  const auto rate = [](int64_t n, double ms) {
    return ms > 0 ? static_cast<double>(n) * 1000 / ms : 0.0;
  };
  const int64_t n_new = a.prompt_tokens - a.reuse.n_tokens,
                n_out = static_cast<int64_t>(a.ids.size());
  std::string reused;
  if (a.reuse.n_tokens > 0)
    reused = fmt::format("reused {} of {} tokens ({}), restored in {:.0f} ms; ", a.reuse.n_tokens,
                         a.prompt_tokens, source_name(a.reuse.source), a.reuse.restore_ms);
  return fmt::format("{}{} read at {:.1f} tok/s, {} written at {:.1f} tok/s", reused, n_new,
                     rate(n_new, a.prefill_ms - a.reuse.restore_ms), n_out,
                     rate(n_out, a.decode_ms));
}

}  // namespace narwhal::cli
