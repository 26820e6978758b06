#include "residency/plan.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace narwhal {
namespace {

constexpr uint64_t kGib = uint64_t{1} << 30;

class Plan : public testing::Test {
 protected:
  MemoryPlan plan(uint64_t available, int64_t n_ctx = 0, int n_sessions = 1) {
    request_.weights_bytes = 81 * kGib;
    request_.n_ctx = n_ctx;
    request_.n_sessions = n_sessions;
    request_.chunk = 256;
    request_.n_logits = 64;
    return make_plan(config_, layout_, request_, available);
  }
  Config config_ = flash_config();
  KvLayout layout_ = make_kv_layout(config_, KvPrecision::kTrained);
  PlanRequest request_;
};

TEST_F(Plan, AMillionTokensAreUnderFourGigabytes) {
  const MemoryPlan p = plan(128 * kGib);
  EXPECT_EQ(p.n_ctx, 1048576);
  EXPECT_TRUE(p.fits());
  EXPECT_LE(p.kv_session_bytes, 3'900'000'000u);
  EXPECT_EQ(p.total_bytes, p.weights_bytes + p.workspace_bytes + p.kv_session_bytes +
                               p.frontier_bytes + p.kept_bytes + p.scoring_bytes);
}

TEST_F(Plan, SessionsAreCountedOneByOne) {
  const MemoryPlan one = plan(128 * kGib, 65536), four = plan(128 * kGib, 65536, 4);
  EXPECT_EQ(four.total_bytes - one.total_bytes,
            3 * (one.kv_session_bytes + one.frontier_bytes + one.kept_bytes));
  EXPECT_EQ(four.workspace_bytes + four.scoring_bytes, one.workspace_bytes + one.scoring_bytes)
      << "logits that sessions use are not kept for scoring";
  EXPECT_GT(four.workspace_bytes, one.workspace_bytes);
}

TEST_F(Plan, TellsWhatARunTakesFromWhatItMay) {
  const MemoryPlan p = plan(128 * kGib, 2048);
  EXPECT_EQ(p.run_bytes(), p.workspace_bytes + p.kv_session_bytes + p.frontier_bytes);
  EXPECT_EQ(p.most_bytes(), p.total_bytes - p.weights_bytes);
  const uint64_t logits = 63 * uint64_t{4} * static_cast<uint64_t>(config_.n_vocab);
  EXPECT_GE(p.scoring_bytes, logits);
  EXPECT_LT(p.scoring_bytes, logits * 6 / 5);
  EXPECT_EQ(p.kept_bytes, 12 * p.frontier_bytes);
}

TEST_F(Plan, TakesTheLongestContextThatFits) {
  const MemoryPlan p = plan(83 * kGib);
  EXPECT_TRUE(p.fits());
  EXPECT_LT(p.n_ctx, 1048576);
  EXPECT_FALSE(plan(83 * kGib, p.n_ctx + kPageTokens).fits()) << "one page more does not fit";
}

TEST_F(Plan, ExpertsLeaveADeviceThatIsTooSmall) {
  plan(0);  // fills request_
  const uint64_t experts = 70 * kGib;
  const auto moved = [&](uint64_t available, int64_t n_ctx) {
    request_.n_ctx = n_ctx;
    return move_experts_to_host(config_, layout_, request_, available, experts);
  };
  EXPECT_EQ(moved(128 * kGib, 0).host_weights_bytes, 0u);
  EXPECT_EQ(moved(128 * kGib, 0).n_ctx, 0) << "untouched where it fits";
  const PlanRequest h100 = moved(78 * kGib, 0);
  EXPECT_EQ(h100.n_ctx, 32768);
  EXPECT_GT(h100.host_weights_bytes, 3 * kGib);
  EXPECT_LT(h100.host_weights_bytes, 8 * kGib);
  const MemoryPlan p = make_plan(config_, layout_, h100, 78 * kGib);
  EXPECT_TRUE(p.fits());
  EXPECT_EQ(p.total_bytes, p.weights_bytes - p.host_weights_bytes + p.most_bytes());
  EXPECT_GT(moved(78 * kGib, 131072).host_weights_bytes, h100.host_weights_bytes);
  EXPECT_EQ(moved(8 * kGib, 0).host_weights_bytes, 0u) << "what is no expert does not fit either";
}

TEST_F(Plan, NoMoreExpertsLeaveThanMust) {
  const uint64_t all = plan(128 * kGib, 32768).total_bytes, experts = 70 * kGib;
  const auto moved = [&](uint64_t available) {
    const PlanRequest q = move_experts_to_host(config_, layout_, request_, available, experts);
    EXPECT_EQ(make_plan(config_, layout_, q, available).fits(), available >= all - experts);
    return q.host_weights_bytes;
  };
  EXPECT_EQ(moved(all), 0u);
  EXPECT_EQ(moved(all - 1), 1u);
  EXPECT_EQ(moved(all - experts), experts);
  EXPECT_EQ(moved(all - experts - 1), 0u) << "refused: all experts together are not enough";
}

TEST_F(Plan, RefusalsSayWhatWouldFit) {
  const MemoryPlan tight = plan(83 * kGib, 1048576);
  const Status status = check_plan(config_, layout_, request_, tight);
  EXPECT_EQ(status.code(), Code::kNoMemory);
  EXPECT_NE(status.message().find("use --ctx "), std::string::npos) << status.message();
  const uint64_t available = 81 * kGib + 2 * kGib;
  const Status crowded = check_plan(config_, layout_, request_, plan(available, 65536, 200));
  EXPECT_EQ(crowded.code(), Code::kNoMemory);
  const size_t at = crowded.message().find("use --sessions ");
  ASSERT_NE(at, std::string::npos) << crowded.message();
  const int fewer = std::atoi(crowded.message().c_str() + at + 15);
  EXPECT_GT(fewer, 1);
  EXPECT_TRUE(plan(available, 4096, fewer).fits());
  EXPECT_FALSE(plan(available, 4096, fewer + 1).fits());
  plan(0, 4096);
  request_.chunk = 2048;
  const Status wide = check_plan(config_, layout_, request_,
                                 make_plan(config_, layout_, request_, 81 * kGib + kGib / 2));
  EXPECT_NE(wide.message().find("use --chunk 64"), std::string::npos) << wide.message();
  const Status hopeless = check_plan(config_, layout_, request_, plan(16 * kGib));
  EXPECT_EQ(hopeless.code(), Code::kNoMemory);
  EXPECT_NE(hopeless.message().find("smaller model"), std::string::npos) << hopeless.message();
  EXPECT_EQ(check_plan(config_, layout_, request_, plan(128 * kGib, 2000000)).code(), Code::kUsage);
  EXPECT_TRUE(check_plan(config_, layout_, request_, plan(0, 1048576)).ok())
      << "0 = the system does not tell";
}

}  // namespace
}  // namespace narwhal
