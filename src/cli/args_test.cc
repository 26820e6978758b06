#include "cli/args.h"

#include <gtest/gtest.h>

#include "base/options.h"

namespace narwhal::cli {
namespace {

using Words = std::vector<std::string>;

Args parse(std::string_view command, Words words) {
  auto args = Args::parse(command, std::move(words));
  EXPECT_TRUE(args.ok()) << args.status().message();
  return args.ok() ? *args : Args();
}

std::string refusal(std::string_view command, Words words) {
  const auto args = Args::parse(command, std::move(words));
  EXPECT_FALSE(args.ok());
  EXPECT_EQ(args.status().code(), Code::kUsage);
  EXPECT_EQ(args.status().message().find('\n'), std::string::npos) << "one line";
  return args.status().message();
}

TEST(Args, ReadsEveryKindOfValue) {
  const Args a = parse("run", {"-p", "hi", "-n", "5", "--temp=0.25", "--json", "--effort", "max"});
  EXPECT_EQ(a.text("--prompt"), "hi");
  EXPECT_EQ(a.integer("--max-tokens"), 5);
  EXPECT_EQ(a.number("--temp"), 0.25);
  EXPECT_TRUE(a.flag("--json"));
  EXPECT_FALSE(a.flag("--raw"));
  EXPECT_EQ(a.text("--effort"), "max");
}

TEST(Args, AbsentOptionsHaveTheTablesDefault) {
  const Args a = parse("run", {});
  EXPECT_EQ(a.number("--temp"), 0.6);
  EXPECT_EQ(a.text("--backend"), "auto");
  EXPECT_FALSE(a.given("--temp"));
  EXPECT_EQ(a.text("--prompt"), "");
}

TEST(Args, ValuesMayLookLikeAnything) {
  EXPECT_EQ(parse("run", {"-p", "--json"}).text("--prompt"), "--json");
  EXPECT_EQ(parse("run", {"-p", "[a,b]"}).text("--prompt"), "[a,b]");
  EXPECT_EQ(parse("run", {"-p", ""}).text("--prompt"), "");
  EXPECT_TRUE(parse("run", {"-p", ""}).given("--prompt"));
  EXPECT_EQ(parse("run", {"-p", "\"quoted\" 'too'"}).text("--prompt"), "\"quoted\" 'too'");
  EXPECT_EQ(parse("run", {"-p", "a\nb\tc"}).text("--prompt"), "a\nb\tc");
  EXPECT_EQ(parse("run", {"--presence-penalty", "-1.5"}).number("--presence-penalty"), -1.5);
}

TEST(Args, TheLastOfARepeatedOptionWinsAndListsKeepAll) {
  EXPECT_EQ(parse("run", {"-n", "1", "-n", "2"}).integer("--max-tokens"), 2);
  EXPECT_EQ(parse("convert", {"dir", "--tensor-type", "a=f32", "--tensor-type", "b=q8_0"})
                .list("--tensor-type"),
            (Words{"a=f32", "b=q8_0"}));
}

TEST(Args, PositionalArgument) {
  EXPECT_EQ(parse("convert", {"dir", "-o", "x.gguf"}).text("CHECKPOINT_DIR"), "dir");
  EXPECT_EQ(parse("convert", {"-o", "x.gguf", "dir"}).text("CHECKPOINT_DIR"), "dir");
  EXPECT_EQ(parse("convert", {}).text("CHECKPOINT_DIR"), "");
}

TEST(Args, RefusesWithOneHelpfulLine) {
  EXPECT_EQ(refusal("run", {"--tmp", "1"}), "unknown option --tmp; did you mean --temp?");
  EXPECT_EQ(refusal("run", {"--colour"}), "unknown option --colour; see narwhal run --help");
  EXPECT_EQ(refusal("run", {"hello"}), "unexpected argument 'hello'; see narwhal run --help");
  EXPECT_EQ(refusal("run", {"-n", "many"}),
            "--max-tokens is 'many', expected a whole number, 0 or more");
  EXPECT_EQ(refusal("run", {"-n", "-3"}),
            "--max-tokens is '-3', expected a whole number, 0 or more");
  EXPECT_EQ(refusal("run", {"-n", "99999999999999999999"}),
            "--max-tokens is '99999999999999999999', expected a whole number, 0 or more");
  EXPECT_EQ(refusal("run", {"--temp", "nan"}), "--temp is 'nan', expected a number");
  EXPECT_EQ(refusal("run", {"--effort", "some"}),
            "--effort is 'some', expected one of low|high|max");
  refusal("run", {"--effort", "low|high"});
  refusal("run", {"-p"});
  refusal("run", {"--json=maybe"});
  refusal("inspect", {"--max-tokens", "3"});
}

TEST(Args, HelpNamesEveryOptionAndShowsExamples) {
  for (const Command& c : command_table()) {
    EXPECT_TRUE(parse(c.name, {"--help"}).wants_help());
    const std::string help = command_help(c.name);
    EXPECT_NE(help.find("narwhal " + std::string(c.name) + " "), std::string::npos);
    for (const Option& o : option_table()) {
      if (o.applies_to(c.name)) {
        EXPECT_NE(help.find(o.name), std::string::npos) << o.name;
      }
    }
    EXPECT_NE(program_help().find(c.summary), std::string::npos);
  }
}

}  // namespace
}  // namespace narwhal::cli
