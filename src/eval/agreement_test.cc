#include "eval/agreement.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace narwhal::eval {
namespace {

TEST(Agreement, DivergenceOfKnownDistributions) {
  AgreementReport report;
  // Half and half against 3 to 1: 0.5 ln (0.5 / 0.75) + 0.5 ln (0.5 / 0.25).
  const std::array<float, 2> even{2, 2}, uneven{std::log(3.0f) - 5, -5};
  add_position(uneven, even, report);
  EXPECT_NEAR(report.kl_sum, 0.5 * std::log(0.5 / 0.75) + 0.5 * std::log(2.0), 1e-6);
  EXPECT_EQ(report.n_same, 1);  // the lower id among equals
  const std::array<float, 2> other{0, 1};
  add_position(other, uneven, report);
  EXPECT_EQ(report.n, 2);
  EXPECT_EQ(report.n_same, 1);
  EXPECT_EQ(report.top1(), 0.5);
  EXPECT_GT(report.kl_most, report.kl_mean());
}

TEST(Agreement, NotANumberIsNoAgreement) {
  AgreementReport report;
  const std::array<float, 2> bad{NAN, 1}, good{0, 1};
  add_position(bad, good, report);
  add_position(good, good, report);
  EXPECT_TRUE(std::isnan(report.kl_most));
}

TEST(Agreement, BackendsOfTheEmbeddedModel) {
  const auto open = [](const char* backend) {
    EngineOptions options;
    options.backend = backend;
    options.n_ctx = 800;
    return *Engine::open(options);
  };
  const auto reference = open("ref"), cpu = open("cpu");
  const AgreementOptions options{.n = 150, .n_document = 400};
  const auto same = measure_agreement(*reference, *reference, options);
  ASSERT_TRUE(same.ok()) << same.status().message();
  EXPECT_EQ((*same).n, 150);
  EXPECT_EQ((*same).top1(), 1.0);
  EXPECT_NEAR((*same).kl_most, 0, 1e-9);

  const auto near = measure_agreement(*cpu, *reference, options);
  ASSERT_TRUE(near.ok());
  EXPECT_GE((*near).top1(), 0.98);
  EXPECT_GT((*near).kl_sum, 0);  // it does compute otherwise
  EXPECT_LT((*near).kl_most, 2e-2);
}

TEST(Agreement, StopsWhenAsked) {
  EngineOptions options;
  options.backend = "cpu";
  options.n_ctx = 800;
  const auto engine = *Engine::open(options);
  const auto report = measure_agreement(*engine, *engine, {.n = 1000, .n_document = 400},
                                        [](int64_t done, int64_t) { return done < 100; });
  EXPECT_EQ(report.status().code(), Code::kCancelled);
}

}  // namespace
}  // namespace narwhal::eval
