// From options to the things a command works with.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "cli/args.h"
#include "gguf/reader.h"
#include "narwhal/engine.h"
#include "narwhal/sampler.h"
#include "text/chat.h"

namespace narwhal::cli {

class Stopwatch {
 public:
  double ms() const {
    return std::chrono::duration<double, std::milli>(Clock::now() - start_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// --model, --backend, --ctx, --threads, --kv-precision, --chunk. kUsage for a number out of range.
Result<EngineOptions> engine_options(const Args& args);

// Opens the engine for run and chat, with --kv-disk-dir and --kv-disk-space-mb; kBadInput when the
// model carries no tokenizer.
Result<std::unique_ptr<Engine>> open_talking_engine(const Args& args);

// Maps the model's file (the embedded model when `path` is empty), for what needs no engine.
Result<gguf::File> open_model_file(const std::string& path);

// The sampling options of run and chat, checked.
Result<SamplingOptions> sampling_options(const Args& args);

// --think, --nothink, --effort and the release that the model states.
Result<text::RenderOptions> render_options(const Args& args, const ModelInfo& info);

// The text of -p, -f or standard input, as it stands. kUsage when there is none and standard input
// is a terminal; kBadInput when it is not UTF-8.
Result<std::string> input_text(const Args& args);

// A file's text (- = standard input). kBadInput when it cannot be read or is not UTF-8.
Result<std::string> read_text(const std::string& path);

// Token ids separated by blanks or commas, or as a JSON array; each in [0, n_vocab).
Result<std::vector<int32_t>> parse_ids(std::string_view text, int64_t n_vocab);

// "1.50 GiB".
std::string format_bytes(uint64_t n);

}  // namespace narwhal::cli
