// From a request to the tokens that the model is to continue.
#pragma once

#include "narwhal/status.h"
#include "serve/turn.h"
#include "serve/turn_memory.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace narwhal::serve {

// Messages as APIs allow them, in the order that the template knows: leading system texts become
// one, later ones become reminders inside the user's turn, so that what stands before them keeps
// its tokens. kBadInput when there is nothing to answer.
Status arrange_messages(std::vector<ChatMessage>& messages);

// Thread-safe. What it refers to must outlive it.
class Prompter {
 public:
  Prompter(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
           text::PromptProfile profile, TurnMemory& memory)
      : tokenizer_(tokenizer), chat_(chat), profile_(profile), memory_(memory) {}

  // Arranges and renders; assistant turns that are remembered stand as they were sampled. The
  // output limit is not yet applied. kBadInput as the template.
  Result<TurnJob> job(TurnRequest request) const;

 private:
  Result<text::Prompt> render(TurnRequest& request, uint64_t& history) const;

  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate& chat_;
  const text::PromptProfile profile_;
  TurnMemory& memory_;
};

}  // namespace narwhal::serve
