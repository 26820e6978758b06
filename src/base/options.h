// The one table of every switch and command. The parsers, --help and docs/options.md are made from
// it, and no other file reads the environment.
//
//   for (const Option& o : option_table())
//     if (o.applies_to("run")) ...
//   option_value_from_environment(*find_option("run", "--model"));   // $NARWHAL_MODEL
//
// Constant data; any thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace narwhal {

enum class OptionType {
  kFlag,    // no value
  kInt,     // 64-bit, decimal
  kNumber,  // decimal fraction
  kText,
  kFile,    // a path, "-" for standard input where the help says so
  kChoice,  // one of the words in `value`, separated by |
  kList,    // text, may be given several times
};

struct Option {
  std::string_view name;        // "--max-tokens"; no dashes for a positional argument
  std::string_view short_name;  // "-n" or empty
  std::string_view commands;    // "run chat"
  OptionType type;
  std::string_view value;          // placeholder ("N") or the words of a choice; empty for a flag
  std::string_view default_value;  // read like a value the user gave; empty = none
  std::string_view environment;    // variable used when the option is absent; empty = none
  std::string_view help;

  bool applies_to(std::string_view command) const;
  bool is_positional() const { return !name.starts_with('-'); }
};

struct Command {
  std::string_view name;
  std::string_view summary;
  std::string_view examples;  // one per line
};

std::span<const Command> command_table();
std::span<const Option> option_table();

// Null when there is none.
const Command* find_command(std::string_view name);
// By long or short name.
const Option* find_option(std::string_view command, std::string_view name);

// The variable's value when the option has one and it is set and not empty.
std::optional<std::string> option_value_from_environment(const Option& option);

// The candidate nearest to a mistyped word, or empty when none is near.
std::string_view nearest_word(std::string_view word, std::span<const std::string_view> candidates);

// The whole of docs/options.md.
std::string options_markdown();

}  // namespace narwhal
