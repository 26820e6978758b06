#include "cli/setup.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "base/file.h"
#include "base/parse_index.h"
#include "engine/embedded_model.h"

namespace narwhal::cli {
namespace {

Result<int> small_int(const Args& args, std::string_view name) {
  const int64_t v = args.integer(name);
  if (v > std::numeric_limits<int>::max()) {
    return usage(
        fmt::format("{} is {}, expected at most {}", name, v, std::numeric_limits<int>::max()));
  }
  return static_cast<int>(v);
}

}  // namespace

Result<EngineOptions> engine_options(const Args& args) {
  EngineOptions o;
  o.model = args.text("--model");
  o.backend = args.text("--backend");
  o.cpu_level = args.text("--cpu-level");
  o.n_ctx = args.integer("--ctx");
  NW_ASSIGN(o.n_threads, small_int(args, "--threads"));
  if (!args.text("--pin").empty()) o.pin = args.text("--pin");
  NW_ASSIGN(o.prefill_chunk, small_int(args, "--chunk"));
  o.gpu_memory_mb = args.integer("--gpu-memory-mb");
  o.kv_precision = args.text("--kv-precision") == "f32" ? KvPrecision::kF32 : KvPrecision::kTrained;
  return o;
}

Result<std::unique_ptr<Engine>> open_talking_engine(const Args& args) {
  NW_ASSIGN(EngineOptions options, engine_options(args));
  options.kv_disk_dir = args.text("--kv-disk-dir");
  options.kv_disk_space_mb = args.integer("--kv-disk-space-mb");
  NW_ASSIGN(auto engine, Engine::open(options));
  if (!engine->tokenizer()) {
    return bad_input(fmt::format("{}: the file has no tokenizer; convert it again with --tokenizer",
                                 engine->info().path));
  }
  return engine;
}

Result<gguf::File> open_model_file(const std::string& path) {
  if (!path.empty()) return gguf::File::open(path);
  return gguf::File::from_memory(embedded_model(), "(embedded)");
}

Result<SamplingOptions> sampling_options(const Args& args) {
  SamplingOptions o;
  o.temperature = static_cast<float>(args.number("--temp"));
  NW_ASSIGN(o.top_k, small_int(args, "--top-k"));
  o.top_p = static_cast<float>(args.number("--top-p"));
  o.min_p = static_cast<float>(args.number("--min-p"));
  o.presence_penalty = static_cast<float>(args.number("--presence-penalty"));
  o.frequency_penalty = static_cast<float>(args.number("--frequency-penalty"));
  o.seed = static_cast<uint64_t>(args.integer("--seed"));
  NW_TRY(check_sampling(o));
  return o;
}

Result<text::RenderOptions> render_options(const Args& args, const ModelInfo& info) {
  if (args.flag("--think") && args.flag("--nothink")) {
    return usage("--think and --nothink exclude each other; give one");
  }
  text::RenderOptions o;
  o.thinking = !args.flag("--nothink");
  const std::string& effort = args.text("--effort");
  o.effort = effort == "max"    ? text::Effort::kMax
             : effort == "high" ? text::Effort::kHigh
                                : text::Effort::kLow;
  o.profile =
      info.prompt_profile == "0731" ? text::PromptProfile::k0731 : text::PromptProfile::kPreview;
  return o;
}

Result<std::string> read_text(const std::string& path) {
  NW_ASSIGN(std::string text, read_file(path));
  NW_TRY(check_utf8(text).within(path == "-" ? "standard input" : path));
  return text;
}

Result<std::string> input_text(const Args& args) {
  if (args.given("--prompt") && args.given("--file")) {
    return usage("-p and -f exclude each other; give one");
  }
  if (args.given("--prompt")) {
    NW_TRY(check_utf8(args.text("--prompt")).within("--prompt"));
    return args.text("--prompt");
  }
  if (args.given("--file")) return read_text(args.text("--file"));
  if (isatty(STDIN_FILENO)) {
    return usage("no text; give -p TEXT, -f FILE or text on standard input");
  }
  return read_text("-");
}

Result<std::vector<int32_t>> parse_ids(std::string_view text, int64_t n_vocab) {
  constexpr std::string_view kBetween = " \t\r\n,[]";
  std::vector<int32_t> ids;
  for (size_t at = 0; (at = text.find_first_not_of(kBetween, at)) != text.npos;) {
    const size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    const std::string_view word = text.substr(at, end - at);
    const auto id = parse_index(word, n_vocab);
    if (!id) {
      return bad_input(fmt::format("token id '{}', expected a number from 0 to {}",
                                   word.substr(0, 40), n_vocab - 1));
    }
    ids.push_back(static_cast<int32_t>(*id));
    at = end;
  }
  return ids;
}

std::string format_bytes(uint64_t n) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double v = double(n);
  int unit = 0;
  while (v >= 1024 && unit < 4) v /= 1024, unit++;
  return unit == 0 ? fmt::format("{} B", n) : fmt::format("{:.2f} {}", v, kUnits[unit]);
}

}  // namespace narwhal::cli
