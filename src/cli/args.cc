#include "cli/args.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "base/check.h"
#include "base/options.h"

namespace narwhal::cli {
namespace {

bool parse_int(const std::string& text, int64_t& value) {
  char* end = nullptr;
  errno = 0;
  value = std::strtoll(text.c_str(), &end, 10);
  return !text.empty() && *end == 0 && errno == 0 && !std::isspace(text[0]);
}

bool parse_number(const std::string& text, double& value) {
  char* end = nullptr;
  value = std::strtod(text.c_str(), &end);
  return !text.empty() && *end == 0 && std::isfinite(value) && !std::isspace(text[0]);
}

bool has_word(std::string_view words, std::string_view word) {
  return !word.empty() && word.find('|') == word.npos &&
         fmt::format("|{}|", words).find(fmt::format("|{}|", word)) != std::string::npos;
}

Status check_value(const Option& o, const std::string& value) {
  int64_t i = 0;
  double x = 0;
  switch (o.type) {
    case OptionType::kInt:
      if (parse_int(value, i) && i >= 0) return ok_status();
      return usage(fmt::format("{} is '{}', expected a whole number, 0 or more", o.name, value));
    case OptionType::kNumber:
      if (parse_number(value, x)) return ok_status();
      return usage(fmt::format("{} is '{}', expected a number", o.name, value));
    case OptionType::kChoice:
      if (has_word(o.value, value)) return ok_status();
      return usage(fmt::format("{} is '{}', expected one of {}", o.name, value, o.value));
    default:
      return ok_status();
  }
}

Status unknown_word(std::string_view command, const std::string& word) {
  const std::string hint = fmt::format("see narwhal {} --help", command);
  if (word.size() < 2 || word[0] != '-') {
    return usage(fmt::format("unexpected argument '{}'; {}", word, hint));
  }
  std::vector<std::string_view> names;
  for (const Option& o : option_table()) {
    if (o.applies_to(command)) names.push_back(o.name);
  }
  const std::string name = word.substr(0, word.find('='));
  const std::string_view near = nearest_word(name, names);
  return usage(near.empty() ? fmt::format("unknown option {}; {}", name, hint)
                            : fmt::format("unknown option {}; did you mean {}?", name, near));
}

}  // namespace

Result<Args> Args::parse(std::string_view command, std::vector<std::string> words) {
  CLI::App app;
  app.set_help_flag("-h,--help");
  app.allow_extras();
  std::vector<std::pair<const Option*, CLI::Option*>> parsed;
  for (const Option& o : option_table()) {
    if (!o.applies_to(command)) continue;
    std::string names(o.name);
    if (!o.short_name.empty()) names = fmt::format("{},{}", o.short_name, names);
    CLI::Option* c = o.type == OptionType::kFlag ? app.add_flag(names)->disable_flag_override()
                                                 : app.add_option(names)->expected(1);
    c->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    parsed.emplace_back(&o, c);
  }
  Args args;
  args.command_ = command;
  std::reverse(words.begin(), words.end());  // the order in which CLI11 takes them
  try {
    app.parse(std::move(words));
  } catch (const CLI::CallForHelp&) {
    args.wants_help_ = true;
    return args;
  } catch (const CLI::ParseError& e) {
    return usage(fmt::format("{}; see narwhal {} --help", e.what(), command));
  }
  if (const auto rest = app.remaining(); !rest.empty()) return unknown_word(command, rest.front());
  for (const auto& [o, c] : parsed) {
    std::vector<std::string> values = c->results();
    bool given = c->count() > 0;
    if (const auto variable = option_value_from_environment(*o); !given && variable) {
      values = {*variable};
      given = true;
    }
    if (values.empty() && !o->default_value.empty()) values.emplace_back(o->default_value);
    for (const std::string& v : values) NW_TRY(check_value(*o, v));
    args.values_.emplace(o->name, std::move(values));
    args.given_.emplace(o->name, given);
  }
  return args;
}

bool Args::given(std::string_view name) const {
  const auto it = given_.find(name);
  NW_CHECK(it != given_.end(), "{} has no option {}", command_, name);
  return it->second;
}

const std::vector<std::string>& Args::list(std::string_view name) const {
  const auto it = values_.find(name);
  NW_CHECK(it != values_.end(), "{} has no option {}", command_, name);
  return it->second;
}

const std::string& Args::text(std::string_view name) const {
  static const std::string none;
  const auto& values = list(name);
  return values.empty() ? none : values.back();
}

int64_t Args::integer(std::string_view name) const {
  int64_t value = 0;
  return parse_int(text(name), value) ? value : 0;
}

double Args::number(std::string_view name) const {
  double value = 0;
  return parse_number(text(name), value) ? value : 0;
}

std::string command_help(std::string_view command) {
  const Command* c = find_command(command);
  NW_CHECK(c, "no command {}", command);
  std::string out = fmt::format("narwhal {}: {}\n\nOptions:\n", c->name, c->summary);
  for (const Option& o : option_table()) {
    if (!o.applies_to(command)) continue;
    std::string left = o.short_name.empty() ? "    " : fmt::format("{}, ", o.short_name);
    if (o.is_positional()) left = "";
    left += o.name;
    if (!o.value.empty() && !o.is_positional()) left += fmt::format(" {}", o.value);
    std::string right(o.help);
    if (!o.default_value.empty()) right += fmt::format(" [{}]", o.default_value);
    if (!o.environment.empty()) right += fmt::format(" [${}]", o.environment);
    out += fmt::format("  {:<34}  {}\n", left, right);
  }
  out += fmt::format("  {:<34}  {}\n\nExamples:\n", "-h, --help", "this text");
  std::string_view rest = c->examples;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    out += fmt::format("  {}\n", rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

std::string program_help() {
  std::string out =
      "narwhal: local inference for DeepSeek V4 Flash\n\n"
      "usage: narwhal COMMAND [OPTIONS]\n\nCommands:\n";
  for (const Command& c : command_table()) out += fmt::format("  {:<10} {}\n", c.name, c.summary);
  out +=
      "\nnarwhal COMMAND --help shows the options of a command; narwhal --version the version.\n"
      "Without -m FILE or NARWHAL_MODEL the embedded model is used.\n\nExamples:\n"
      "  narwhal run -p \"What is 47 + 85?\"\n  narwhal chat\n  narwhal inspect\n";
  return out;
}

}  // namespace narwhal::cli
