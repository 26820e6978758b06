// Reads the model's output token by token: reasoning, content and tool calls, as they appear.
//
//   OutputParser parser(tokenizer, controls, /*in_reasoning=*/thinking);
//   for (int32_t id : sampled) {
//     for (const OutputEvent& e : parser.push(id)) show(e);
//     if (parser.done()) break;
//   }
//   for (const OutputEvent& e : parser.finish()) show(e);
//
// Controls are recognised by id; text that spells one is text. Controls out of place are hidden.
// All text is well-formed UTF-8 and linear work, whatever the model writes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/detokenizer.h"
#include "text/dsml.h"
#include "text/invoke.h"
#include "text/prompt.h"
#include "text/tokenizer.h"

namespace narwhal::text {

struct OutputEvent {
  enum Kind {
    kReasoning,  // text: more of the reasoning
    kContent,    // text: more of the answer
    kToolCall,   // call: one whole call, arguments a JSON object, id empty
    kBadCall,    // text: why; raw: the call as the model wrote it
    kEnd,        // the turn is over: end of sentence, a role token, or the block is closed
  };
  Kind kind;
  std::string text;
  ToolCall call;
  std::string raw;
};

class OutputParser {
 public:
  using Events = std::vector<OutputEvent>;

  // in_reasoning: the prompt's last token is <think>. The tokenizer must outlive the parser.
  OutputParser(const Tokenizer& tokenizer, const Controls& controls, bool in_reasoning);

  // What this token completes; often nothing, since blanks and possible tags are held until the
  // next tokens decide. Tokens after the end are ignored.
  Events push(int32_t id);

  // No more tokens (a length limit, or after kEnd): releases what is held. An unfinished call is
  // closed if all its parameters are, else reported as kBadCall. Idempotent.
  Events finish();

  bool done() const { return state_ == kDone; }
  bool in_reasoning() const { return state_ == kReason; }
  // Inside a call block or its possible opener: greedy sampling of structure may apply.
  bool in_block() const { return state_ == kBlock || state_ == kOpener; }

 private:
  enum State { kReason, kContentText, kOpener, kBlock, kDone };

  void take_text(std::string_view utf8, Events& events);
  void take_control(int32_t id, Events& events);
  void show(std::string_view text, Events& events);
  void release(Events& events);
  void take_flat(std::string_view flat, Events& events);
  void read_invokes(Events& events);
  void bad_call(std::string why, Events& events);
  void end(Events& events);

  const Tokenizer& tokenizer_;
  Controls controls_;
  DsmlTags tags_;
  State state_;
  State outside_;  // where kOpener came from
  Detokenizer utf8_;
  std::string held_;        // kReason, kContentText: blanks and "<" that may precede a block
  bool line_start_ = true;  // nothing but blanks since the last line feed that was shown
  std::string flat_;        // kOpener, kBlock: flat text not read yet
  size_t searched_ = 0;     // flat_ before this holds no closer
  bool finished_ = false;
};

}  // namespace narwhal::text
