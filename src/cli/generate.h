// One answer: prompt in, text out piece by piece. What run and chat share.
//
//   Generator generator(*engine->tokenizer(), chat.controls());
//   NW_ASSIGN(Answer a, generator.answer(*session, prompt_ids, options, events));
//
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "narwhal/sampler.h"
#include "narwhal/session.h"
#include "text/dsml.h"
#include "text/output_parser.h"
#include "text/prompt.h"
#include "text/tokenizer.h"

namespace narwhal::cli {

enum class Finish { kStop, kLength, kToolCalls, kCancelled };
std::string_view finish_name(Finish finish);  // "stop", "length", "tool_calls", "cancelled"

struct AnswerOptions {
  SamplingOptions sampling;
  int64_t max_tokens = 0;  // 0 = until the context is full
};

struct AnswerEvents {
  std::function<void(std::string_view)> reasoning = {}, content = {};
  std::function<bool()> cancelled = {};
};

struct Answer {
  std::string reasoning, content;
  std::vector<text::ToolCall> tool_calls;
  // What was sampled, the end-of-sentence token included when the model gave it. The last one is
  // not yet in the session.
  std::vector<int32_t> ids;
  bool in_reasoning = false;  // stopped before the reasoning was over
  Finish finish = Finish::kStop;
  uint64_t seed = 0;
  int64_t prompt_tokens = 0;
  Reuse reuse;  // tokens of the prompt that were not computed, and where they came from
  double prefill_ms = 0, decode_ms = 0;
};

class Generator {
 public:
  // Both must outlive the generator.
  Generator(const text::Tokenizer& tokenizer, const text::Controls& controls)
      : tokenizer_(tokenizer), controls_(controls) {}

  // Reasoning is expected when the prompt ends with <think>. Every control token but those that
  // structure an answer is banned. A cancelled answer is no error: what there is comes back with
  // kCancelled. kUsage when the prompt is longer than the session's context.
  Result<Answer> answer(Session& session, std::span<const int32_t> prompt, AnswerOptions options,
                        const AnswerEvents& events) const;

 private:
  std::vector<int32_t> banned(int64_t n_vocab) const;
  Status decode(Session& session, const AnswerOptions& options, const AnswerEvents& events,
                text::OutputParser& parser, Answer& answer) const;

  const text::Tokenizer& tokenizer_;
  const text::Controls& controls_;
};

// The tool calls of an answer as the model writes them, to show after its text; empty without any.
std::string tool_calls_text(const text::Controls& controls, const Answer& answer);

// Whether no further token fits.
bool is_full(const Session& session);

// "reused 512 of 540 tokens (disk), restored in 3 ms; 28 read at 310.2 tok/s, 55 written at 41.7
// tok/s"; the first part only where something was reused.
std::string_view source_name(Reuse::Source source);
std::string describe_speed(const Answer& answer);

}  // namespace narwhal::cli
