#include "base/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace narwhal {
namespace {

constexpr Command kCommands[] = {
    {"run", "one answer to standard output, statistics to standard error",
     "narwhal run -p \"What is 47 + 85?\"\n"
     "narwhal run -m flash-q2.gguf -f question.txt --nothink -n 200\n"
     "git diff | narwhal run --system \"Review this change.\" --temp 0"},
    {"chat", "a conversation in the terminal; /help lists what can be typed",
     "narwhal chat\n"
     "narwhal chat -m flash-q2.gguf --ctx 65536 --effort high"},
    {"serve", "the APIs of OpenAI and Anthropic over HTTP; docs/clients.md sets up clients",
     "narwhal serve\n"
     "narwhal serve -m flash-q2.gguf --ctx 131072 --sessions 4 --kv-disk-dir ~/.cache/narwhal\n"
     "narwhal serve --host 0.0.0.0 --port 8080 --api-key SECRET\n"
     "narwhal serve --unix /run/user/1000/narwhal.sock"},
    {"cache", "the disk cache: its entries, their soundness, and removal",
     "narwhal cache ls --kv-disk-dir ~/.cache/narwhal\n"
     "narwhal cache show 3fa9c1 --kv-disk-dir ~/.cache/narwhal\n"
     "narwhal cache verify --kv-disk-dir ~/.cache/narwhal --json\n"
     "narwhal cache gc --kv-disk-dir ~/.cache/narwhal --kv-disk-space-mb 2048\n"
     "narwhal cache rm --all --kv-disk-dir ~/.cache/narwhal"},
    {"inspect", "a model file: card, tensors, memory plan; reads the header only",
     "narwhal inspect -m flash-q2.gguf --ctx 131072\n"
     "narwhal inspect -m flash-q2.gguf --tensors --json"},
    {"tokenize", "text to token ids and back",
     "narwhal tokenize -p \"Hello world!\" --pieces\n"
     "narwhal tokenize --decode -p \"19923 2058 3\"\n"
     "narwhal tokenize --tokenizer tokenizer.json --jsonl < strings.jsonl"},
    {"logits", "logits at every position as raw float32, for comparison with a reference",
     "narwhal logits -m tiny.gguf --ids \"1 2 3\" --kv-precision f32 --out logits.f32\n"
     "narwhal logits -m tiny.gguf --ids-file prompt.txt --chunk 64 --out logits.f32"},
    {"convert", "a Hugging Face checkpoint (safetensors) to GGUF",
     "narwhal convert checkpoint/ --out model.gguf --type q8_0\n"
     "narwhal convert checkpoint/ -o model.gguf --type q2 --tensor-type \"output.weight=f16\""},
    {"synth", "a GGUF of any shape with seeded random weights, for benches and tests",
     "narwhal synth --shape tiny --quant f16 --flavor rich --out tiny.gguf\n"
     "narwhal synth --shape flash --quant q2 --sparse all --out flash-shape.gguf"},
    {"eval", "what a model can do, measured on held-out cases that the seed makes",
     "narwhal eval skills\n"
     "narwhal eval skills -m candidate.gguf --seed 7 --json"},
    {"bench", "speed over the context, or of single ops, beside what the machine could do",
     "narwhal bench --ctx-max 8192\n"
     "narwhal bench -m flash-q2.gguf --ctx-start 2048 --ctx-max 2048 --csv speed.csv --svg "
     "speed.svg\n"
     "narwhal bench --ops --format q8_0"},
};

constexpr std::string_view kAnswering = "run chat";
constexpr std::string_view kEngine = "run chat inspect logits bench eval serve";
constexpr auto kFlag = OptionType::kFlag;
constexpr auto kInt = OptionType::kInt;
constexpr auto kNumber = OptionType::kNumber;
constexpr auto kText = OptionType::kText;
constexpr auto kFile = OptionType::kFile;
constexpr auto kChoice = OptionType::kChoice;
constexpr auto kList = OptionType::kList;

// name, short, commands, type, value, default, environment, help
constexpr Option kOptions[] = {
    // Model and machine.
    {"--model", "-m", "run chat inspect tokenize logits bench eval serve", kFile, "FILE", "",
     "NARWHAL_MODEL", "model file (GGUF); without it the embedded model"},
    {"--backend", "", kEngine, kChoice, "auto|cuda|hip|metal|cpu|ref|emu", "auto", "",
     "what computes"},
    {"--cpu-level", "", kEngine, kChoice, "auto|portable|avx2|avx512|amx|neon|i8mm", "auto", "",
     "instruction sets of the CPU backend; auto = the best of this machine"},
    {"--ctx", "", kEngine, kInt, "N", "0", "",
     "tokens a session may hold; 0 = what the model and the memory allow"},
    {"--threads", "", "run chat inspect logits convert synth bench eval serve", kInt, "N", "0", "",
     "threads; 0 = one per physical core"},
    {"--pin", "", kEngine, kChoice, "auto|on|off", "auto", "",
     "keep each thread of the CPU backend on a core of its own; auto = where there are several "
     "memory nodes"},
    {"--kv-precision", "", kEngine, kChoice, "trained|f32", "trained", "",
     "rows of the cache as the model was trained, or unrounded for comparison with references"},
    {"--gpu-memory-mb", "", kEngine, kInt, "N", "0", "",
     "use at most so much of the GPU's memory; experts that do not fit stay in this machine's; 0 = "
     "what is free"},
    {"--chunk", "", "run chat inspect logits bench eval serve", kInt, "N", "0", "",
     "prompt tokens computed at once; 0 = the backend's choice"},
    {"--kv-disk-dir", "", "run chat serve cache", kFile, "DIR", "", "",
     "folder where computed prompts are kept across runs; without it nowhere"},
    {"--kv-disk-space-mb", "", "run chat serve cache", kInt, "N", "8192", "",
     "budget of that folder in MB"},

    // What to read.
    {"--prompt", "-p", "run tokenize", kText, "TEXT", "", "",
     "the text; without -p and -f standard input"},
    {"--file", "-f", "run tokenize", kFile, "FILE", "", "",
     "file with the text, UTF-8; - = standard input"},
    {"--system", "", kAnswering, kText, "TEXT", "", "", "system text; empty = none"},
    {"--raw", "", "run", kFlag, "", "", "",
     "the text is an already rendered prompt: control tokens in it are recognised"},

    // How to answer.
    {"--max-tokens", "-n", "run chat serve", kInt, "N", "0", "",
     "most tokens of one answer; 0 = until the context is full"},
    {"--think", "", "run chat serve", kFlag, "", "", "", "reason before the answer (the default)"},
    {"--nothink", "", "run chat serve", kFlag, "", "", "", "answer at once"},
    {"--effort", "", kAnswering, kChoice, "low|high|max", "low", "", "effort of the reasoning"},
    {"--temp", "", kAnswering, kNumber, "X", "0.6", "",
     "temperature; 0 = always the most likely token"},
    {"--top-k", "", "run chat serve", kInt, "N", "0", "",
     "keep the N most likely tokens, 512 at most; 0 = 512"},
    {"--top-p", "", kAnswering, kNumber, "X", "0.95", "",
     "keep the smallest set with at least this probability; 1 = all"},
    {"--min-p", "", kAnswering, kNumber, "X", "0", "",
     "drop tokens below X times the most likely; 0 = none"},
    {"--presence-penalty", "", "run chat serve", kNumber, "X", "0", "",
     "taken from the logit of every token already used in the answer"},
    {"--frequency-penalty", "", "run chat serve", kNumber, "X", "0", "",
     "taken once for each earlier use in the answer"},
    {"--seed", "", "run chat synth bench", kInt, "N", "0", "",
     "seed of the random numbers; 0 = chosen at random (run, chat), 1 (synth, bench)"},

    // serve.
    {"--host", "", "serve", kText, "ADDRESS", "127.0.0.1", "", "address to listen on"},
    {"--port", "", "serve", kInt, "N", "8000", "", "port to listen on; 0 = any free one"},
    {"--unix", "", "serve", kFile, "PATH", "", "", "listen on this UNIX socket instead"},
    {"--api-key", "", "serve", kList, "KEY", "", "NARWHAL_API_KEY",
     "key that requests must carry; may be given several times"},
    {"--cors", "", "serve", kFlag, "", "", "", "let web pages of any site use the server"},
    {"--name", "", "serve", kList, "HOST", "", "",
     "further host name by which browsers may address the server"},
    {"--alias", "", "serve", kText, "NAME", "", "", "model name to show; without it the file's"},
    {"--sessions", "", "serve", kInt, "N", "4", "",
     "turns computed at once; memory is planned for all of them"},
    {"--max-queue", "", "serve", kInt, "N", "64", "", "turns that may wait; more are refused"},
    {"--stretch", "", "serve", kNumber, "X", "2.0", "",
     "how many times longer the gap between tokens may get while a prompt is read"},
    {"--keep-alive", "", "serve", kNumber, "SECONDS", "5", "",
     "signs of life to waiting clients in this distance"},
    {"--temp", "", "serve", kNumber, "X", "1", "", "temperature when the client gives none"},
    {"--top-p", "", "serve", kNumber, "X", "1", "",
     "keep the smallest set with at least this probability; 1 = all"},
    {"--min-p", "", "serve", kNumber, "X", "0.05", "",
     "drop tokens below X times the most likely; 0 = none"},
    {"--effort", "", "serve", kChoice, "low|high|max", "high", "",
     "effort of the reasoning when the client gives none"},
    {"--anthropic-thinking-default", "", "serve", kChoice, "on|off", "on", "",
     "whether /v1/messages thinks when the client does not say"},
    {"--soft-response-format", "", "serve", kFlag, "", "", "",
     "ask the model for a response format without enforcing it"},
    {"--call-retries", "", "serve", kInt, "N", "1", "",
     "how often a block of tool calls that cannot be read is written again, from its beginning and "
     "with its grammar enforced; 0 = it is given as text"},
    {"--loop-breaker", "", "serve", kInt, "N", "4096", "",
     "end a turn whose last N tokens repeat with a period of at most 64, or that makes the same "
     "call four times in a row; 0 = never"},
    {"--tool-reminder", "", "serve", kInt, "N", "0", "",
     "from a depth of N tokens on, follow the results of tools by a sentence on how tools are "
     "called; 0 = never"},
    {"--retry-window", "", "serve", kInt, "SECONDS", "600", "",
     "how long prompts are read on, and answers kept, for a client that left before their end and "
     "may send the same request again; 0 = not at all"},
    {"--trace", "", "serve", kFile, "DIR", "", "",
     "write a file per turn: prompt, what the cache gave, output, events"},
    {"--script", "", "serve", kFile, "FILE", "", "",
     "for tests of clients: write what FILE says instead of sampling; see src/serve/script.h"},
    {"--quiet", "", "serve", kFlag, "", "", "", "no line per turn"},
    {"--seed", "", "serve", kInt, "N", "0", "",
     "seed when the client gives none; 0 = chosen at random"},

    // Reports.
    {"--json", "", "run inspect tokenize logits convert synth bench eval cache", kFlag, "", "", "",
     "report as one JSON object on standard output"},
    {"--tensors", "", "inspect", kFlag, "", "", "", "list every tensor"},
    {"--sessions", "", "inspect", kInt, "N", "1", "", "sessions the memory plan must hold"},

    // cache.
    {"ACTION", "", "cache", kChoice, "ls|show|verify|gc|rm", "ls", "",
     "list; one entry; checksums of all files; what nothing needs or exceeds the budget; removal"},
    {"ID", "", "cache", kText, "ID", "", "", "show, rm: the entry, or how its id begins"},
    {"--all", "", "cache", kFlag, "", "", "", "rm: every entry"},

    // tokenize.
    {"--tokenizer", "", "tokenize convert", kFile, "FILE", "", "",
     "tokenizer.json to use; tokenize: instead of a model, convert: instead of the checkpoint's"},
    {"--pieces", "", "tokenize", kFlag, "", "", "", "show the text of each token beside its id"},
    {"--special", "", "tokenize", kFlag, "", "", "",
     "recognise control tokens spelled out in the text"},
    {"--decode", "", "tokenize", kFlag, "", "", "", "ids in, text out"},
    {"--jsonl", "", "tokenize", kFlag, "", "", "",
     "one JSON string a line in, one JSON array of ids a line out (with --decode the reverse)"},

    // logits.
    {"--ids", "", "logits", kText, "IDS", "", "", "token ids, separated by spaces or commas"},
    {"--ids-file", "", "logits", kFile, "FILE", "", "", "file with token ids; - = standard input"},
    {"--out", "-o", "logits convert synth", kFile, "FILE", "", "",
     "file to write; it appears complete or not at all"},

    // convert.
    {"CHECKPOINT_DIR", "", "convert", kFile, "CHECKPOINT_DIR", "", "",
     "folder with config.json and *.safetensors"},
    {"--type", "", "convert", kChoice, "f32|bf16|f16|q8_0|q4|q2", "q8_0", "",
     "type of the weight matrices; q4 and q2 concern the routed experts"},
    {"--tensor-type", "", "convert", kList, "PATTERN=TYPE", "", "",
     "type of the tensors whose GGUF name matches PATTERN (* = anything); the last match counts"},
    {"--imatrix", "", "convert", kFile, "FILE", "", "", "importance matrix for the quantisers"},
    {"--name", "", "convert", kText, "NAME", "", "", "model name; without it the folder's"},
    {"--mtp", "", "convert", kFlag, "", "", "",
     "also the multi-token-prediction block, as tensors mtp.0.*; inference leaves it alone"},
    {"--prompt-profile", "", "convert", kChoice, "auto|preview|0731", "auto", "",
     "release whose prompt texts the model was trained with; auto = what config.json lets know"},

    // synth.
    {"--shape", "", "synth", kChoice, "flash|minnow|tiny", "flash", "",
     "base shape; the options below change single dimensions"},
    {"--layers", "", "synth", kInt, "N", "", "", "layers"},
    {"--hidden", "", "synth", kInt, "N", "", "", "width of the model"},
    {"--vocab", "", "synth", kInt, "N", "", "", "tokens of the vocabulary"},
    {"--heads", "", "synth", kInt, "N", "", "", "attention heads"},
    {"--head-dim", "", "synth", kInt, "N", "", "", "width of a head"},
    {"--rot", "", "synth", kInt, "N", "", "", "rotated part of a head"},
    {"--groups", "", "synth", kInt, "N", "", "", "groups of the output projection"},
    {"--q-lora", "", "synth", kInt, "N", "", "", "rank of the query projection"},
    {"--o-lora", "", "synth", kInt, "N", "", "", "rank of the output projection, per group"},
    {"--experts", "", "synth", kInt, "N", "", "", "routed experts of a layer"},
    {"--experts-used", "", "synth", kInt, "N", "", "", "routed experts of a token"},
    {"--ffn", "", "synth", kInt, "N", "", "", "width of an expert"},
    {"--hash-layers", "", "synth", kInt, "N", "", "", "first layers that route by token id"},
    {"--swa", "", "synth", kInt, "N", "", "", "tokens of the sliding window"},
    {"--indexer-heads", "", "synth", kInt, "N", "", "", "heads of the indexer"},
    {"--indexer-dim", "", "synth", kInt, "N", "", "", "width of an indexer head"},
    {"--indexer-topk", "", "synth", kInt, "N", "", "", "rows the indexer chooses"},
    {"--hc", "", "synth", kInt, "N", "", "", "residual streams"},
    {"--sinkhorn", "", "synth", kInt, "N", "", "", "Sinkhorn iterations"},
    {"--ratios", "", "synth", kText, "R0,R1,...", "", "",
     "compression ratio of each layer: 0, 4 or 128; default 0,0,4,128,4,128,..."},
    {"--quant", "", "synth", kChoice, "q2|q4|mixed|q8|mxfp4|f16", "q2", "",
     "types: q2 = experts IQ2_XXS and Q2_K, q4 = Q4_K, mixed = q2 and six layers q4, q8 = Q8_0"},
    {"--flavor", "", "synth", kChoice, "plain|rich", "plain", "",
     "plain: norms 1, biases and sinks 0; rich: these drawn too"},
    {"--tokenizer-json", "", "synth", kFile, "FILE", "", "",
     "tokenizer.json whose vocabulary to write; without it a byte-level one"},
    {"--mtp", "", "synth", kFlag, "", "", "",
     "the separate file of the multi-token-prediction block instead"},
    {"--alias-experts", "", "synth", kInt, "N", "0", "",
     "only N layers store routed experts, the others share their bytes; 0 = each its own"},
    {"--sparse", "", "synth", kChoice, "none|experts|all", "none", "",
     "leave the routed experts or all tensor data as a hole of zeros"},
    {"--alignment", "", "synth", kInt, "N", "32", "", "alignment of tensor data in bytes"},
    {"--memory-floor-mib", "", "synth", kInt, "N", "3072", "",
     "pause up to 3 s at a time while less memory is available; 0 = never"},
    {"--ignore-space", "", "synth", kFlag, "", "", "",
     "write even if disk or memory seem too small"},
    {"--dry-run", "", "synth", kFlag, "", "", "", "write nothing, report only"},
    {"--list", "", "synth", kFlag, "", "", "", "list the tensors"},

    // eval.
    {"WHAT", "", "eval", kChoice, "skills|agreement", "skills", "",
     "what to evaluate: what the model can do, or how near the backend's logits are to the "
     "reference's"},
    {"--seed", "", "eval", kInt, "N", "1", "", "another seed makes other cases"},
    {"--misses", "", "eval", kInt, "N", "0", "", "wrong replies of each sub-skill to show"},
    {"--n", "", "eval", kInt, "N", "0", "",
     "cases of each recall skill and of each other sub-skill; 0 = 128 up to 4k tokens, 24 beyond, "
     "100 elsewhere; of agreement, positions; 0 = 2000"},

    // bench.
    {"--file", "-f", "bench", kFile, "FILE", "", "",
     "text to walk along, UTF-8; without it random tokens of --seed"},
    {"--ctx-start", "", "bench", kInt, "N", "512", "", "first context to measure at"},
    {"--ctx-max", "", "bench", kInt, "N", "4096", "", "last context; the steps may end before"},
    {"--step-incr", "", "bench", kInt, "N", "0", "",
     "tokens from a context to the next; 0 = --step-mul"},
    {"--step-mul", "", "bench", kNumber, "X", "2", "", "factor from a context to the next"},
    {"--gen", "", "bench", kInt, "N", "32", "", "tokens decoded at each context"},
    {"--repeat", "", "bench", kInt, "N", "3", "", "walks; figures are medians over them"},
    {"--warmup", "", "bench", kInt, "N", "32", "", "tokens computed before, untimed"},
    {"--csv", "", "bench", kFile, "FILE", "", "", "file to write the figures to, for records"},
    {"--svg", "", "bench", kFile, "FILE", "", "", "file to write a plot to"},
    {"--ops", "", "bench", kFlag, "", "", "", "time single ops at the shapes of V4 Flash instead"},
    {"--op", "", "bench", kText, "NAME", "", "", "with --ops: only this op"},
    {"--format", "", "bench", kText, "NAME", "", "",
     "with --ops: only this weight format (q8_0, iq2_xxs, ...); - = ops without weights"},
};

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); i++) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); j++) {
      const int replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

std::string escape_bars(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

bool Option::applies_to(std::string_view command) const {
  for (size_t at = 0; at < commands.size();) {
    const size_t end = std::min(commands.find(' ', at), commands.size());
    if (commands.substr(at, end - at) == command) return true;
    at = end + 1;
  }
  return false;
}

std::span<const Command> command_table() { return kCommands; }
std::span<const Option> option_table() { return kOptions; }

const Command* find_command(std::string_view name) {
  for (const Command& c : kCommands) {
    if (c.name == name) return &c;
  }
  return nullptr;
}

const Option* find_option(std::string_view command, std::string_view name) {
  for (const Option& o : kOptions) {
    if ((o.name == name || (!name.empty() && o.short_name == name)) && o.applies_to(command)) {
      return &o;
    }
  }
  return nullptr;
}

std::optional<std::string> option_value_from_environment(const Option& option) {
  if (option.environment.empty()) return std::nullopt;
  const char* value = std::getenv(std::string(option.environment).c_str());
  if (!value || !*value) return std::nullopt;
  return value;
}

std::string_view nearest_word(std::string_view word, std::span<const std::string_view> candidates) {
  std::string_view best;
  int best_distance = 3;  // two slips are likely a typing mistake, three another word
  for (std::string_view c : candidates) {
    const int d = edit_distance(word, c);
    if (d < best_distance && d < static_cast<int>(c.size())) {
      best = c;
      best_distance = d;
    }
  }
  return best;
}

std::string options_markdown() {
  std::string out =
      "# Options\n\n"
      "Made by `narwhal options` from the table in `src/base/options.cc`; a test compares the "
      "two.\n"
      "\n## Commands\n\n| command | does |\n|---|---|\n";
  for (const Command& c : kCommands) out += fmt::format("| `{}` | {} |\n", c.name, c.summary);
  for (const Command& c : kCommands) {
    out += fmt::format(
        "\n## narwhal {}\n\n```\n{}\n```\n\n| option | default | meaning |\n|---|---|---|\n",
        c.name, c.examples);
    for (const Option& o : kOptions) {
      if (!o.applies_to(c.name)) continue;
      std::string name(o.name);
      if (!o.short_name.empty()) name = fmt::format("{}, {}", o.short_name, name);
      if (!o.value.empty() && !o.is_positional()) name += fmt::format(" {}", o.value);
      const std::string fallback = !o.environment.empty()     ? fmt::format("`${}`", o.environment)
                                   : !o.default_value.empty() ? fmt::format("`{}`", o.default_value)
                                                              : "";
      out += fmt::format("| `{}` | {} | {} |\n", escape_bars(name), fallback, escape_bars(o.help));
    }
  }
  return out;
}

}  // namespace narwhal
