// The commands. Each reads its options, does its work, prints to standard output and returns; the
// Status' code is the exit code of the program.
#pragma once

#include "cli/args.h"
#include "narwhal/status.h"

namespace narwhal::cli {

Status run(const Args& args);
Status chat(const Args& args);
Status inspect(const Args& args);
Status tokenize(const Args& args);
Status logits(const Args& args);
Status convert(const Args& args);
Status synth(const Args& args);
Status bench(const Args& args);
Status eval(const Args& args);
Status serve(const Args& args);
Status cache(const Args& args);

}  // namespace narwhal::cli
