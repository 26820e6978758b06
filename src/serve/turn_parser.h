// Reads what the model writes, token by token, into the events of an answer. Arguments of tool
// calls are delivered while they are written.
//
//   TurnParser parser(tokenizer, controls, {.in_reasoning = true, .tools = &tools});
//   for (int32_t id : sampled) parser.push(id, events);
//   parser.finish(/*cut=*/true, events);     // only when the output ended by a limit
//
// Controls are recognised by id; text that spells one is text, but for the misspellings of a call
// block that are tolerated where a declared tool is called at the start of a line. All text is
// well-formed UTF-8; the pieces of one call's arguments, joined, are a JSON object. Linear work,
// whatever the model writes.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "serve/dsml_tag.h"
#include "serve/tool_table.h"
#include "text/detokenizer.h"
#include "text/prompt.h"
#include "text/tokenizer.h"

namespace narwhal::serve {

struct OutputEvent {
  enum Kind {
    kReasoning,
    kContent,
    kCallStart,      // text: the tool's name
    kCallArguments,  // text: more of the JSON
    kCallEnd,
  };
  Kind kind;
  std::string text;
};
using OutputEvents = std::vector<OutputEvent>;

class TurnParser {
 public:
  struct Options {
    bool in_reasoning = false;         // the prompt's last token is <think>
    const ToolTable* tools = nullptr;  // null: calls are not recognised
    bool is_exact = false;             // misspelled blocks are text
    bool ends_loops = true;            // the same call four times in a row ends the turn
  };

  // Everything referred to must outlive the parser. A value: a copy is a point to go back to.
  TurnParser(const text::Tokenizer& tokenizer, const text::Controls& controls, Options options);

  void push(int32_t id, OutputEvents& events);
  // No more tokens. cut: a limit ended the output, so that an open call stays open; otherwise what
  // is open is closed. Idempotent.
  void finish(bool cut, OutputEvents& events);

  bool done() const { return state_ == kDone; }
  // Ended for the number or the repetition of its calls.
  bool runaway() const { return runaway_; }
  bool in_reasoning() const { return state_ == kReason; }
  // The turn ended with a block that could not be read; all of it is content.
  bool malformed() const { return malformed_; }
  // Nothing is held but white space: a point to go back to.
  bool at_rest() const { return (state_ == kReason || state_ == kContent) && buffer_.empty(); }
  // A block made with the control is beginning: "<｜DSML｜" was read in the answer.
  bool opens_block() const { return state_ == kContent && tools_ && buffer_.starts_with("<\xFF"); }
  bool in_block() const { return state_ != kReason && state_ != kContent && state_ != kDone; }
  // Tags, names and JSON punctuation come next: sample the most likely token.
  bool structural() const;
  int n_calls() const { return n_calls_; }  // complete ones
  // Sentences on what was repaired or given up, for the log.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  enum State { kReason, kContent, kBlock, kInvoke, kString, kJson, kDone };

  void run(OutputEvents& events);
  bool step_text(OutputEvents& events);
  bool step_tags(OutputEvents& events);
  bool step_string(OutputEvents& events);
  bool step_json(OutputEvents& events);

  Fit fit_opener(size_t& end, bool& is_real) const;
  Fit fit_declared_invoke(std::string_view s) const;
  struct ValueEnd {
    Fit fit;
    size_t end, next;
  };
  ValueEnd value_end_at(size_t at) const;

  void text_out(std::string_view text, OutputEvents& events);
  void open_block(size_t n_opener, bool is_real, OutputEvents& events);
  void begin_call(const Header& header, OutputEvents& events);
  void begin_value(const Header& header, OutputEvents& events);
  void value_out(std::string_view text, OutputEvents& events);
  void end_string(bool drop_newline, OutputEvents& events);
  void end_json(std::string_view value, OutputEvents& events);
  void end_call(OutputEvents& events);
  void bad(std::string why, OutputEvents& events);
  void arguments(std::string_view json, OutputEvents& events);
  void consume(size_t n);
  std::string plain(std::string_view s) const;

  const text::Tokenizer* tokenizer_;
  const text::Controls* controls_;
  const ToolTable* tools_;
  bool is_exact_, ends_loops_;
  State state_;
  bool finished_ = false, malformed_ = false;
  text::Detokenizer utf8_;
  std::string buffer_;  // not decided yet; kString and kJson: from scan_ on not looked at
  size_t scan_ = 0;
  // Text.
  std::string blanks_;  // white space that may precede a block
  bool line_start_ = true, in_fence_ = false;
  std::string line_head_;  // the first characters of a line, for code fences
  // Block.
  bool real_ = false, wrapped_ = true;
  std::string raw_;  // of the block, until an event of it was sent
  size_t n_garbage_ = 0;
  int n_structural_ = 0, n_calls_ = 0, n_equal_calls_ = 0;
  bool runaway_ = false;
  // Call.
  std::string tool_, arguments_, last_call_;
  std::set<std::string, std::less<>> keys_;
  // Value.
  bool skip_value_ = false, newline_ = false, quoted_json_ = false;
  uint8_t types_ = kAnyType;
  size_t json_seen_ = 0;
  bool json_string_ = false, json_escape_ = false;
  std::vector<std::string> notes_;
};

}  // namespace narwhal::serve
