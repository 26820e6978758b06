// Deep in a conversation models of few bits slip from calls into prose that describes them. A
// sentence after the results of tools brings the form back to mind.
#pragma once

#include <cstdint>

#include "serve/turn.h"
#include "text/tokenizer.h"

namespace narwhal::serve {

// Adds the sentence after every group of tool results that has at least `depth` tokens of text and
// tools before its end; depth 0 adds nothing. What is added depends on what stands before it only,
// so a longer conversation keeps the tokens of a shorter one.
void add_reminders(TurnRequest& request, int64_t depth, const text::Tokenizer& tokenizer);

}  // namespace narwhal::serve
