// Held-out cases: conversations whose assistant turns are the right answers, word for word.
//
//   Dice dice(seed, "text/sort");
//   Case c = text_case(dice, "sort", /*thinking=*/false);
//
// The families and the surface forms are those of the training generator (tools/minnow), the draws
// are not: another random stream, names and codes that are made up for the case.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "eval/dice.h"
#include "text/chat.h"

namespace narwhal::eval {

struct Case {
  std::vector<text::Message> messages = {};  // ends with the assistant turn that is scored
  std::vector<Json> tools = {};
  bool thinking = false;
  bool every_turn = false;  // score all assistant turns, not only the last
};

// Cases that share the beginning of their prompts: read once.
using Group = std::vector<Case>;

text::Message user_message(std::string content);
text::Message reply_message(std::string content, std::string reasoning = {});

// A question, its answer, and the reasoning that comes before it in thinking mode.
struct Exercise {
  std::string question, answer, reasoning;
};
Case one_question(Dice& dice, const Exercise& exercise, bool thinking);

// Sub-skills of chat: "about itself", "general knowledge", "what was said".
Case chat_case(Dice& dice, std::string_view sub, bool thinking);
Exercise about_itself(Dice& dice);
Exercise general_knowledge(Dice& dice);

// A question without one right answer ("Tell me a story about a fox called Anna."), and a word
// that the story must contain.
struct OpenQuestion {
  Case prompt;  // ends with the user's turn
  std::string must_contain;
};
OpenQuestion open_question(Dice& dice, bool thinking);

// Sub-skills of text: "copy", "reverse", "sort", "sort numbers", "count", "upper case", "count to",
// "spell", "add", "subtract", "multiply".
Case text_case(Dice& dice, std::string_view sub, bool thinking);
Exercise exercise(Dice& dice, std::string_view sub);

// Sub-skills of tools: "one call", "two calls", "second call", "no call", "error". Cases with the
// same `intro` (an index of kIntros) share the tools text.
Case tool_case(Dice& dice, std::string_view sub, bool thinking, int intro);

// Number of tokens that a text adds where a word may follow it.
using CountTokens = std::function<int(const std::string&)>;
// Number of tokens of the prompt of a case, its last assistant turn left out.
using CountPrompt = std::function<int(const Case&)>;

struct RecallRequest {
  int n_tokens = 1024;  // most tokens of a prompt
  bool thinking = false;
  std::vector<int> residues;  // one question each: the prompt's length modulo 128
};
struct RecallGroup {
  Group cases;
  std::vector<bool> is_code;        // the case asks for a code, otherwise for a name or number
  std::vector<std::string> values;  // what is asked for
};
// One document with as many facts as questions (at least four), half of them codes, at uniform
// depths in prose that never repeats a sentence. The end of the document differs from question to
// question by a few sentences, which give the prompt its length.
RecallGroup recall_group(Dice& dice, const RecallRequest& request, const CountTokens& count_text,
                         const CountPrompt& count_prompt);

}  // namespace narwhal::eval
