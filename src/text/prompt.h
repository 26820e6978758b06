// A prompt before it becomes token ids: text and control tokens, kept apart so that text which
// spells a control's name never turns into one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "narwhal/status.h"
#include "text/tokenizer.h"

namespace narwhal::text {

struct PromptItem {
  int32_t control = -1;   // token id of a control, or -1 for text
  std::string text = {};  // the bytes; of a control, its literal (to show, never to tokenise)

  std::vector<int32_t> ids = {};  // not empty: exactly these tokens, and no text

  bool is_control() const { return control >= 0; }
  friend bool operator==(const PromptItem&, const PromptItem&) = default;
};
using Prompt = std::vector<PromptItem>;

// A control token of the template: its id in the loaded vocabulary (-1: not there) and its name.
struct Control {
  int32_t id = -1;
  std::string_view name;
};

// The control tokens that the template and the output parser know, found by name.
struct Controls {
  Control bos, eos, user, assistant, think, end_think, dsml, reminder;
  // Needed only by the prompts that use them, so a vocabulary may lack them.
  Control fim_begin, fim_hole, fim_end;
  Control action, query, authority, domain, title, read_url;

  // kBadInput naming the first of bos ... reminder that the vocabulary lacks.
  static Result<Controls> find(const Tokenizer& tokenizer);

  // The name of a control found above; empty for any other id.
  std::string_view name_of(int32_t id) const;

  // Whether sampling this control ends the turn: end of sentence, a role, begin of sentence.
  bool ends_turn(int32_t id) const;
};

// Appends; text next to text becomes one item.
void add_text(Prompt& prompt, std::string_view text);
void add_control(Prompt& prompt, const Control& control);
void add_items(Prompt& prompt, std::span<const PromptItem> items);
void add_ids(Prompt& prompt, std::span<const int32_t> ids);

// Cuts trusted text (the template's own) at every added token in it.
Prompt split_controls(const Tokenizer& tokenizer, std::string_view text);

// The items that these ids stand for: what the model wrote, ready to parse.
Prompt prompt_of_ids(const Tokenizer& tokenizer, std::span<const int32_t> ids);

// Token ids. Each maximal run of text is tokenised as one text.
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, std::span<const PromptItem> prompt);

// Everything as text, controls by their literals. For showing and for tests.
std::string to_string(std::span<const PromptItem> prompt);

}  // namespace narwhal::text
