// kv_crash DIR [KILLS [SEED]]: kills writers of the store in DIR at random moments while readers
// work, and says what was found. Exits with 1 when anything wrong or unusable was.
#include <fmt/format.h>

#include <cstdlib>

#include "kvstore/kv_crash_util.h"

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) {
    fmt::print(stderr, "usage: kv_crash DIR [KILLS [SEED]]\n");
    return 2;
  }
  const int n = argc > 2 ? std::atoi(argv[2]) : 1000;
  const uint64_t seed = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1;
  narwhal::CrashRun run(argv[1]);
  run.run(n, 2, 10, seed);
  const narwhal::CrashCounts& c = run.counts();
  fmt::print(
      "{} kills, {} conversations written, {} restores right, {} gone while read, {} wrong, {} "
      "damaged, {} unusable\n",
      c.kills.load(), c.written.load(), c.right.load(), c.gone.load(), c.wrong.load(),
      c.damaged.load(), c.unusable.load());
  return c.wrong + c.damaged + c.unusable == 0 && c.right > 0 ? 0 : 1;
}
