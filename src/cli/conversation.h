// A conversation as exact tokens: what the model wrote stays as it was sampled, so that the next
// prompt extends the last one and the session computes only what is new. (The official template
// would drop old reasoning and so rewrite the history; here it stays.)
//
//   Conversation talk(tokenizer, chat, options, "Be brief.");
//   NW_ASSIGN(auto prompt, talk.prompt_for("Hello"));
//   NW_ASSIGN(Answer a, generator.answer(session, prompt, ...));
//   talk.add("Hello", prompt, a);
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cli/generate.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace narwhal::cli {

class Conversation {
 public:
  // Tokenizer and template must outlive the conversation.
  Conversation(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
               text::RenderOptions options, std::string system);

  bool thinking() const { return options_.thinking; }
  // For the turns to come.
  void set_thinking(bool on) { options_.thinking = on; }

  // All tokens so far, the user's text and the opener of the answer.
  Result<std::vector<int32_t>> prompt_for(const std::string& user) const;

  // Keeps a turn. `prompt` is what prompt_for(user) gave. An answer without any token (stopped
  // while the prompt was read) leaves no trace; one that was cut short is closed.
  void add(const std::string& user, std::vector<int32_t> prompt, const Answer& answer);

  int64_t n_tokens() const { return static_cast<int64_t>(timeline_.size()); }
  size_t n_messages() const { return messages_.size(); }

  // {"messages": [{"role": "user", "content": "..."}, ...], "tokens": [...]} with OpenAI's field
  // names; the tokens are those of the whole conversation, as they were sampled.
  std::string to_json() const;
  // Replaces the conversation. The messages are what counts: where the tokens do not say the same
  // (none there, an edited file, another model), they are rendered anew. kBadInput leaves it as it
  // was.
  Status load_json(const std::string& json);

 private:
  bool says(std::span<const int32_t> tokens, const std::vector<text::Message>& messages) const;

  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate& chat_;
  text::RenderOptions options_;
  std::vector<text::Message> messages_;  // the system message first, if there is one
  std::vector<int32_t> timeline_;        // empty before the first turn; else ends with EOS
};

}  // namespace narwhal::cli
