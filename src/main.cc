// narwhal: finds the command, runs it, and turns its Status into a line and an exit code.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "base/options.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "narwhal/status.h"

namespace narwhal {
namespace {

struct Entry {
  std::string_view name;
  Status (*run)(const cli::Args&);
};

constexpr Entry kEntries[] = {
    {"run", cli::run},           {"chat", cli::chat},     {"inspect", cli::inspect},
    {"tokenize", cli::tokenize}, {"logits", cli::logits}, {"convert", cli::convert},
    {"synth", cli::synth},       {"bench", cli::bench},   {"eval", cli::eval},
    {"serve", cli::serve},       {"cache", cli::cache},
};

Status unknown_command(const std::string& word) {
  std::vector<std::string_view> names;
  for (const Entry& e : kEntries) names.push_back(e.name);
  const std::string_view near = nearest_word(word, names);
  return usage(fmt::format(
      "unknown {} '{}'; {}", word.starts_with('-') ? "option" : "command", word,
      near.empty() ? "narwhal --help lists the commands" : fmt::format("did you mean {}?", near)));
}

Status dispatch(std::vector<std::string> words) {
  if (words.empty()) {
    return usage("no command; narwhal chat starts a conversation, narwhal --help lists the rest");
  }
  const std::string name = words.front();
  words.erase(words.begin());
  if (name == "--help" || name == "-h" || name == "help") {
    fmt::print("{}", cli::program_help());
    return ok_status();
  }
  if (name == "--version") {
    fmt::print("narwhal {}\n", NARWHAL_VERSION);
    return ok_status();
  }
  if (name == "options") {  // makes docs/options.md
    fmt::print("{}", options_markdown());
    return ok_status();
  }
  for (const Entry& e : kEntries) {
    if (e.name != name) continue;
    NW_ASSIGN(const cli::Args args, cli::Args::parse(name, std::move(words)));
    if (!args.wants_help()) return e.run(args);
    fmt::print("{}", cli::command_help(name));
    return ok_status();
  }
  return unknown_command(name);
}

int finish(Status status) {
  // A full disk behind a redirection shows only here.
  if (std::fflush(stdout) != 0 && status.ok()) {
    status = failed("cannot write to standard output");
  }
  if (!status.ok()) fmt::print(stderr, "narwhal: {}\n", status.message());
  return static_cast<int>(status.code());
}

}  // namespace
}  // namespace narwhal

int main(int argc, char** argv) {
  try {
    return narwhal::finish(narwhal::dispatch({argv + 1, argv + argc}));
  } catch (const std::bad_alloc&) {
    return narwhal::finish(narwhal::no_memory("out of memory; try a smaller --ctx"));
  } catch (const std::exception& e) {
    return narwhal::finish(narwhal::failed(e.what()));
  }
}
