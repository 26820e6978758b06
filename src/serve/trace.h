// What --trace writes: one file per turn with everything that happened to it.
#pragma once

#include <string>

#include "narwhal/status.h"
#include "serve/scheduler.h"
#include "text/tokenizer.h"

namespace narwhal::serve {

// Sections: the line of the log, the cache's decision, the prompt as tokens spell it, what was
// written, and the events that the parser made of it.
Status write_trace(const std::string& path, const Scheduler::Record& record,
                   const text::Tokenizer& tokenizer);

}  // namespace narwhal::serve
