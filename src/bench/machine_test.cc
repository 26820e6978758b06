#include "bench/machine.h"

#include <gtest/gtest.h>

namespace narwhal::bench {
namespace {

TEST(Machine, ReadsTheProcessorsName) {
  EXPECT_EQ(
      cpu_name("processor\t: 0\nmodel\t\t: 143\nmodel name\t: Some CPU @ 2.0GHz \nflags: x\n"),
      "Some CPU @ 2.0GHz");
  EXPECT_EQ(cpu_name("processor : 0\nBogoMIPS : 50\n"), "");
  EXPECT_EQ(cpu_name(""), "");
  EXPECT_EQ(cpu_name("model name: last line without an end"), "last line without an end");
}

TEST(Machine, ReadsCacheSizes) {
  EXPECT_EQ(parse_cache_size("480M\n"), uint64_t{480} << 20);
  EXPECT_EQ(parse_cache_size("32768K"), uint64_t{32} << 20);
  EXPECT_EQ(parse_cache_size("64"), 64u);
  EXPECT_EQ(parse_cache_size(""), 0u);
  EXPECT_EQ(parse_cache_size("M"), 0u);
  EXPECT_EQ(parse_cache_size("12 parsecs"), 0u);
}

TEST(Machine, ReadsWhatTheProcessHolds) {
  const auto use = parse_memory_use(
      "Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t     300 kB\nRssFile:\t     500 kB\n"
      "RssShmem:\t     100 kB\n");
  ASSERT_TRUE(use);
  EXPECT_EQ(use->anonymous, 300u << 10);
  EXPECT_EQ(use->mapped, 600u << 10);
  EXPECT_FALSE(parse_memory_use("Name:\tx\n"));
}

TEST(Machine, ThisOneIsComplete) {
  const Machine m = this_machine();
  EXPECT_FALSE(m.cpu.empty());
  EXPECT_GE(m.n_cores, 1);
  EXPECT_GE(m.n_threads, m.n_cores);
  EXPECT_GT(m.memory, uint64_t{1} << 20);
  EXPECT_FALSE(m.system.empty());
}

TEST(Machine, TheBuildIsNamed) {
  EXPECT_FALSE(build_version().empty());
  EXPECT_FALSE(build_compiler().empty());
  const std::string commit(build_commit());
  const std::string_view hex = std::string_view(commit).substr(0, commit.find('+'));
  EXPECT_TRUE(commit == "unknown" || hex.find_first_not_of("0123456789abcdef") == hex.npos)
      << commit;
}

TEST(Machine, TimeIsWrittenSortably) {
  const std::string t = utc_now();
  ASSERT_EQ(t.size(), 20u) << t;
  EXPECT_EQ(t[10], 'T');
  EXPECT_EQ(t.back(), 'Z');
}

}  // namespace
}  // namespace narwhal::bench
