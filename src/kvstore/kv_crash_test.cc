// bench/crash.sh does the same a thousand times.
#include <gtest/gtest.h>

#include "kvstore/kv_crash_util.h"
#include "kvstore/kv_test_util.h"

namespace narwhal {
namespace {

TEST(KvCrash, FiftyKills) {
  const TestFolder folder;
  CrashRun run(folder.path());
  run.run(50, 2, 5, 1);
  const CrashCounts& c = run.counts();
  EXPECT_EQ(c.kills, 50);
  EXPECT_EQ(c.wrong, 0);
  EXPECT_EQ(c.unusable, 0);
  EXPECT_EQ(c.damaged, 0);
  EXPECT_GT(c.right, 50);
  EXPECT_GT(c.written, 50);
}

}  // namespace
}  // namespace narwhal
