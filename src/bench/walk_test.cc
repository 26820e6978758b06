#include "bench/walk.h"

#include <gtest/gtest.h>

#include <string>

namespace narwhal::bench {
namespace {

WalkOptions options(int64_t start, int64_t max, int64_t incr, double mul) {
  WalkOptions o;
  o.ctx_start = start;
  o.ctx_max = max;
  o.step_incr = incr;
  o.step_mul = mul;
  return o;
}

TEST(Frontiers, Multiply) {
  EXPECT_EQ(*frontiers(options(512, 4096, 0, 2)), (std::vector<int64_t>{512, 1024, 2048, 4096}));
  EXPECT_EQ(*frontiers(options(1000, 3000, 0, 1.5)), (std::vector<int64_t>{1000, 1500, 2250}));
  EXPECT_EQ(*frontiers(options(2048, 2048, 0, 2)), (std::vector<int64_t>{2048}));
}

TEST(Frontiers, Add) {
  EXPECT_EQ(*frontiers(options(100, 450, 100, 2)), (std::vector<int64_t>{100, 200, 300, 400}));
}

TEST(Frontiers, RefuseWhatCannotBeWalked) {
  EXPECT_EQ(frontiers(options(0, 10, 0, 2)).status().code(), Code::kUsage);
  EXPECT_EQ(frontiers(options(20, 10, 0, 2)).status().code(), Code::kUsage);
  EXPECT_EQ(frontiers(options(512, 4096, 0, 1)).status().code(), Code::kUsage);
  EXPECT_EQ(frontiers(options(512, 4096, 32, 2)).status().code(), Code::kUsage);  // all decoded
  EXPECT_TRUE(frontiers(options(512, 4096, 33, 2)).ok());
  WalkOptions o = options(512, 512, 0, 2);
  o.repeat = 0;
  EXPECT_EQ(frontiers(o).status().code(), Code::kUsage);
}

TEST(RandomTokens, AreReproducibleAndInRange) {
  const auto a = random_tokens(7, 1000, 50);
  EXPECT_EQ(a, random_tokens(7, 1000, 50));
  EXPECT_NE(a, random_tokens(8, 1000, 50));
  std::vector<int> seen(50);
  for (const int32_t id : a) {
    ASSERT_GE(id, 0);
    ASSERT_LT(id, 50);
    seen[id]++;
  }
  for (const int n : seen) EXPECT_GT(n, 0);
  // A longer sequence begins with the shorter one.
  const auto longer = random_tokens(7, 1200, 50);
  EXPECT_TRUE(std::equal(a.begin(), a.end(), longer.begin()));
}

TEST(Spread, MedianAndRange) {
  const Spread odd = spread({3, 1, 2});
  EXPECT_DOUBLE_EQ(odd.median, 2);
  EXPECT_DOUBLE_EQ(odd.min, 1);
  EXPECT_DOUBLE_EQ(odd.max, 3);
  EXPECT_DOUBLE_EQ(spread({4, 1, 2, 3}).median, 2.5);
  EXPECT_DOUBLE_EQ(spread({}).median, 0);
}

// A timeline on which a prompt token takes 10 ms and a decoded one 100 ms of a made-up clock.
struct FakeTrack {
  double now = 0;
  std::vector<int32_t> timeline;
  std::string log;

  Track track() {
    return {[this] {
              timeline.clear();
              log += "| ";
              return ok_status();
            },
            [this](std::span<const int32_t> ids) {
              timeline.insert(timeline.end(), ids.begin(), ids.end());
              now += 0.01 * static_cast<double>(ids.size());
              log += "p" + std::to_string(ids.size()) + " ";
              return ok_status();
            },
            [this](int32_t id) {
              timeline.push_back(id);
              now += 0.1;
              log += "d ";
              return ok_status();
            }};
  }
  Clock clock() {
    return [this] { return now; };
  }
};

TEST(Walk, PrefillsAndDecodesAlongTheSequence) {
  WalkOptions o = options(8, 16, 0, 2);
  o.n_decode = 2;
  o.repeat = 2;
  o.warmup = 3;
  const auto tokens = random_tokens(1, 18, 100);
  FakeTrack fake;
  const auto points = walk(o, tokens, fake.track(), nullptr, fake.clock());
  ASSERT_TRUE(points.ok());
  EXPECT_EQ(fake.log, "| p3 | p8 d d p6 d d | p8 d d p6 d d ");
  EXPECT_EQ(fake.timeline, tokens);
  ASSERT_EQ(points->size(), 2u);
  const Point& first = (*points)[0];
  const Point& second = (*points)[1];
  EXPECT_EQ(first.ctx, 8);
  EXPECT_EQ(first.interval(), 8);
  EXPECT_EQ(second.ctx, 16);
  EXPECT_EQ(second.interval_begin, 10);
  EXPECT_EQ(second.interval(), 6);
  for (const Point& p : *points) {
    EXPECT_NEAR(p.prefill_tps.median, 100, 1e-6);
    EXPECT_NEAR(p.decode_tps.median, 10, 1e-6);
    EXPECT_EQ(p.n_decode, 2);
    EXPECT_EQ(p.prefill_joules.median, 0);
  }
}

TEST(Walk, MediansAreOverRepetitions) {
  WalkOptions o = options(10, 10, 0, 2);
  o.n_decode = 1;
  o.repeat = 3;
  o.warmup = 0;
  const auto tokens = random_tokens(1, 11, 100);
  FakeTrack fake;
  Track track = fake.track();
  int turn = 0;
  track.prefill = [&](std::span<const int32_t>) {
    constexpr double kSeconds[] = {1, 5, 2};  // 10, 2, 5 tokens a second
    fake.now += kSeconds[turn++];
    return ok_status();
  };
  const auto points = walk(o, tokens, track, nullptr, fake.clock());
  ASSERT_TRUE(points.ok());
  EXPECT_NEAR((*points)[0].prefill_tps.median, 5, 1e-9);
  EXPECT_NEAR((*points)[0].prefill_tps.min, 2, 1e-9);
  EXPECT_NEAR((*points)[0].prefill_tps.max, 10, 1e-9);
}

TEST(Walk, StopsWhenAskedAndOnFaults) {
  WalkOptions o = options(8, 16, 0, 2);
  o.n_decode = 2;
  const auto tokens = random_tokens(1, 32, 100);
  FakeTrack fake;
  const auto stopped =
      walk(o, tokens, fake.track(), nullptr, fake.clock(), [](int64_t done, int64_t total) {
        EXPECT_EQ(total, 3 * 32);  // the warm-up is the longest part
        return done < 8;
      });
  EXPECT_EQ(stopped.status().code(), Code::kCancelled);
  EXPECT_EQ(fake.log, "| p32 | p8 ");

  Track faulty = fake.track();
  faulty.decode = [](int32_t) { return failed("broken"); };
  EXPECT_EQ(walk(o, tokens, faulty, nullptr, fake.clock()).status().message(), "broken");
}

}  // namespace
}  // namespace narwhal::bench
