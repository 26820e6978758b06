// The command line of one command, read against the table of base/options.h.
//
//   NW_ASSIGN(Args args, Args::parse("run", {"-n", "5", "--json"}));
//   args.integer("--max-tokens");   // 5
//   args.number("--temp");          // 0.6, the table's default
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "narwhal/status.h"

namespace narwhal::cli {

class Args {
 public:
  // kUsage, in one line with a hint, for anything the table does not allow. Numbers and choices
  // are checked here; files are not opened.
  static Result<Args> parse(std::string_view command, std::vector<std::string> words);

  std::string_view command() const { return command_; }
  bool wants_help() const { return wants_help_; }

  // Names are those of the table for this command; anything else is a programmer fault.
  bool given(std::string_view name) const;  // by the user or the environment
  bool flag(std::string_view name) const { return given(name); }
  const std::string& text(std::string_view name) const;  // empty when absent and without default
  int64_t integer(std::string_view name) const;          // 0 likewise
  double number(std::string_view name) const;
  const std::vector<std::string>& list(std::string_view name) const;

 private:
  std::string command_;
  bool wants_help_ = false;
  // Every option of the command, by long name; absent and without default: no strings.
  std::map<std::string, std::vector<std::string>, std::less<>> values_;
  std::map<std::string, bool, std::less<>> given_;
};

// What `narwhal COMMAND --help` prints, and `narwhal --help`.
std::string command_help(std::string_view command);
std::string program_help();

}  // namespace narwhal::cli
