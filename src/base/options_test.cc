#include "base/options.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>

#include "base/file.h"

namespace narwhal {
namespace {

TEST(Options, EveryRowIsWellFormed) {
  for (const Option& o : option_table()) {
    SCOPED_TRACE(std::string(o.name));
    EXPECT_FALSE(o.help.empty());
    EXPECT_EQ(o.value.empty(), o.type == OptionType::kFlag);
    EXPECT_TRUE(o.is_positional() || o.name.starts_with("--"));
    EXPECT_TRUE(o.short_name.empty() || (o.short_name.size() == 2 && o.short_name[0] == '-'));
    if (o.type == OptionType::kChoice) {
      EXPECT_NE(fmt::format("|{}|", o.value).find(fmt::format("|{}|", o.default_value)),
                std::string::npos);
    }
    size_t n_commands = 0;
    for (const Command& c : command_table()) n_commands += o.applies_to(c.name);
    const auto words = 1 + std::count(o.commands.begin(), o.commands.end(), ' ');
    EXPECT_EQ(n_commands, size_t(words)) << "a command that does not exist: " << o.commands;
  }
}

TEST(Options, NamesAreUniqueWithinACommand) {
  for (const Command& c : command_table()) {
    std::set<std::string_view> names;
    for (const Option& o : option_table()) {
      if (!o.applies_to(c.name)) continue;
      EXPECT_TRUE(names.insert(o.name).second) << c.name << " " << o.name;
      if (!o.short_name.empty()) {
        EXPECT_TRUE(names.insert(o.short_name).second) << c.name << " " << o.short_name;
      }
    }
  }
}

TEST(Options, FindsByLongAndShortNameWithinTheCommand) {
  ASSERT_NE(find_option("run", "-n"), nullptr);
  EXPECT_EQ(find_option("run", "-n"), find_option("run", "--max-tokens"));
  EXPECT_EQ(find_option("inspect", "--max-tokens"), nullptr);
  EXPECT_EQ(find_option("run", ""), nullptr);
  EXPECT_EQ(find_command("walk"), nullptr);
}

TEST(Options, TheModelComesFromTheEnvironment) {
  const Option& model = *find_option("run", "--model");
  ::setenv("NARWHAL_MODEL", "a.gguf", 1);
  EXPECT_EQ(option_value_from_environment(model), "a.gguf");
  ::setenv("NARWHAL_MODEL", "", 1);
  EXPECT_EQ(option_value_from_environment(model), std::nullopt);
  ::unsetenv("NARWHAL_MODEL");
  EXPECT_EQ(option_value_from_environment(model), std::nullopt);
  EXPECT_EQ(option_value_from_environment(*find_option("run", "--ctx")), std::nullopt);
}

TEST(Options, NearestWordForgivesTwoSlips) {
  constexpr std::string_view words[] = {"--temp", "--top-k", "--threads"};
  EXPECT_EQ(nearest_word("--tmp", words), "--temp");
  EXPECT_EQ(nearest_word("--treads", words), "--threads");
  EXPECT_EQ(nearest_word("--topk", words), "--top-k");
  EXPECT_EQ(nearest_word("--colour", words), "");
  EXPECT_EQ(nearest_word("x", {}), "");
}

TEST(Options, TheDocumentIsCurrent) {
  const auto text = read_file(NARWHAL_TEST_DATA "/../../docs/options.md");
  ASSERT_TRUE(text.ok()) << text.status().message();
  EXPECT_EQ(*text, options_markdown()) << "run: narwhal options > docs/options.md";
}

}  // namespace
}  // namespace narwhal
