#include "narwhal/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "sample/random.h"

namespace narwhal {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

int32_t sample_one(const std::vector<float>& logits, SamplingOptions options) {
  Sampler sampler(std::move(options));
  auto id = sampler.sample(logits);
  EXPECT_TRUE(id.ok()) << id.status().message();
  return id.ok() ? *id : -1;
}

std::vector<int32_t> sample_many(const std::vector<float>& logits, SamplingOptions options, int n) {
  Sampler sampler(std::move(options));
  std::vector<int32_t> ids;
  for (int i = 0; i < n; i++) {
    auto id = sampler.sample(logits);
    EXPECT_TRUE(id.ok()) << id.status().message();
    if (!id.ok()) break;
    ids.push_back(*id);
    sampler.accept(*id);
  }
  return ids;
}

// Every token's share must be within five standard deviations of its probability.
void expect_shares(const std::vector<int32_t>& ids, const std::map<int32_t, double>& expected) {
  std::map<int32_t, int> counts;
  for (int32_t id : ids) counts[id]++;
  const double n = double(ids.size());
  for (const auto& [id, p] : expected) {
    EXPECT_NEAR(counts[id] / n, p, 5 * std::sqrt(p * (1 - p) / n)) << "token " << id;
    counts.erase(id);
  }
  EXPECT_TRUE(counts.empty()) << "token " << counts.begin()->first << " must never be drawn";
}

SamplingOptions plain(float temperature = 1) {
  return {.temperature = temperature, .top_p = 1, .seed = 11};
}

// Probabilities 0.4, 0.3, 0.2, 0.1 for tokens 2, 0, 3, 1.
std::vector<float> four() {
  return {std::log(0.3f), std::log(0.1f), std::log(0.4f), std::log(0.2f)};
}

TEST(Random, FirstNumbersOfSplitmix64) {
  // The published sequence of splitmix64 with state 1234567.
  EXPECT_EQ(sample::random_bits(1234567, 0), 6457827717110365317u);
  EXPECT_EQ(sample::random_bits(1234567, 1), 3203168211198807973u);
  EXPECT_EQ(sample::random_bits(1234567, 2), 9817491932198370423u);
  for (uint64_t i = 0; i < 1000; i++) {
    EXPECT_GE(sample::random_unit(3, i), 0.0);
    EXPECT_LT(sample::random_unit(3, i), 1.0);
  }
}

TEST(Sampler, TemperatureZeroTakesTheLargestAndTheLowestIdOnATie) {
  EXPECT_EQ(sample_one({1, 5, 3}, {.temperature = 0}), 1);
  EXPECT_EQ(sample_one({1, 5, 5, 5}, {.temperature = 0}), 1);
  EXPECT_EQ(sample_one({-0.0f, 0.0f}, {.temperature = 0}), 0);
  EXPECT_EQ(sample_one({2, kInf, kInf}, {.temperature = 0}), 1);
}

TEST(Sampler, DrawsInProportionToTheSoftmax) {
  expect_shares(sample_many(four(), plain(), 20000), {{2, 0.4}, {0, 0.3}, {3, 0.2}, {1, 0.1}});
}

TEST(Sampler, TemperatureFlattensAndSharpens) {
  std::map<int32_t, double> sharp, flat;
  const std::map<int32_t, double> p = {{2, 0.4}, {0, 0.3}, {3, 0.2}, {1, 0.1}};
  double sharp_sum = 0, flat_sum = 0;
  for (auto [id, v] : p) sharp_sum += sharp[id] = v * v, flat_sum += flat[id] = std::sqrt(v);
  for (auto& [id, v] : sharp) v /= sharp_sum;
  for (auto& [id, v] : flat) v /= flat_sum;
  expect_shares(sample_many(four(), plain(0.5f), 20000), sharp);
  expect_shares(sample_many(four(), plain(2.0f), 20000), flat);
}

TEST(Sampler, TopKKeepsTheKMostLikely) {
  SamplingOptions o = plain();
  o.top_k = 2;
  expect_shares(sample_many(four(), o, 20000), {{2, 0.4 / 0.7}, {0, 0.3 / 0.7}});
  o.top_k = 1;
  expect_shares(sample_many({1, 1, 1}, o, 100), {{0, 1.0}});
  o.top_k = 100;
  expect_shares(sample_many(four(), o, 20000), {{2, 0.4}, {0, 0.3}, {3, 0.2}, {1, 0.1}});
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
  SamplingOptions o = plain();
  o.top_p = 0.65f;
  expect_shares(sample_many(four(), o, 20000), {{2, 0.4 / 0.7}, {0, 0.3 / 0.7}});
  o.top_p = 0.75f;
  expect_shares(sample_many(four(), o, 20000), {{2, 0.4 / 0.9}, {0, 0.3 / 0.9}, {3, 0.2 / 0.9}});
  o.top_p = 0;  // the most likely token alone
  expect_shares(sample_many(four(), o, 100), {{2, 1.0}});
}

TEST(Sampler, TopPCountsTheMassLeftByTopK) {
  SamplingOptions o = plain();
  o.top_k = 2;
  o.top_p = 0.5f;  // token 2 alone holds 0.4 / 0.7 > 0.5
  expect_shares(sample_many(four(), o, 200), {{2, 1.0}});
}

TEST(Sampler, MinPIsRelativeToTheMostLikely) {
  SamplingOptions o = plain();
  o.min_p = 0.6f;  // 0.6 * 0.4 = 0.24
  expect_shares(sample_many(four(), o, 20000), {{2, 0.4 / 0.7}, {0, 0.3 / 0.7}});
  o.min_p = 1;
  expect_shares(sample_many(four(), o, 100), {{2, 1.0}});
}

TEST(Sampler, PresencePenaltyCountsOnceAndFrequencyEveryTime) {
  Sampler presence({.temperature = 0, .presence_penalty = 1.5f});
  const std::vector<float> logits = {5, 4, 3};
  EXPECT_EQ(*presence.sample(logits), 0);
  presence.accept(0);
  EXPECT_EQ(*presence.sample(logits), 1);
  presence.accept(1);
  EXPECT_EQ(*presence.sample(logits), 0) << "3.5 beats 3 and 2.5";
  presence.accept(0);
  EXPECT_EQ(*presence.sample(logits), 0) << "a second sampling costs nothing more";

  Sampler frequency({.temperature = 0, .frequency_penalty = 0.75f});
  std::vector<int32_t> order;
  for (int i = 0; i < 6; i++) {
    order.push_back(*frequency.sample(logits));
    frequency.accept(order.back());
  }
  // 5, 4.25, [3.5 against 4] 4, 3.5, 3.25, [2.75, 2.5 against 3] 3
  EXPECT_EQ(order, (std::vector<int32_t>{0, 0, 1, 0, 1, 2}));
}

TEST(Sampler, LogitBiasMovesAndBannedNeverAppears) {
  EXPECT_EQ(sample_one({1, 2, 3}, {.temperature = 0, .logit_bias = {{0, 4}}}), 0);
  EXPECT_EQ(sample_one({1, 2, 3}, {.temperature = 0, .logit_bias = {{2, -9}}}), 1);
  SamplingOptions o = plain();
  o.banned = {2, 3};
  o.logit_bias = {{2, 100}};
  expect_shares(sample_many(four(), o, 20000), {{0, 0.75}, {1, 0.25}});
  // Ids outside the vocabulary change nothing.
  EXPECT_EQ(sample_one({1, 2}, {.temperature = 0, .logit_bias = {{9, 50}}, .banned = {7}}), 1);
}

TEST(Sampler, InfiniteLogits) {
  expect_shares(sample_many({1, kInf, 2, kInf}, plain(), 20000), {{1, 0.5}, {3, 0.5}});
  expect_shares(sample_many({-kInf, 0, -kInf, 0}, plain(), 20000), {{1, 0.5}, {3, 0.5}});
  SamplingOptions o = plain();
  o.top_k = 3;
  o.top_p = 0.9f;
  o.min_p = 0.1f;
  expect_shares(sample_many({-kInf, kInf, 1e30f}, o, 50), {{1, 1.0}});
}

TEST(Sampler, NaNIsReportedWithItsIndex) {
  for (float temperature : {0.0f, 1.0f}) {
    Sampler sampler({.temperature = temperature});
    const auto r = sampler.sample(std::vector<float>{1, 2, std::nanf(""), 4});
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.status().code(), Code::kFailed);
    EXPECT_NE(r.status().message().find("logit 2 of 4"), std::string::npos) << r.status().message();
  }
}

TEST(Sampler, NothingToSampleIsAnError) {
  EXPECT_EQ(Sampler({}).sample(std::vector<float>{}).status().code(), Code::kFailed);
  EXPECT_EQ(Sampler({}).sample(std::vector<float>{-kInf, -kInf}).status().code(), Code::kFailed);
  EXPECT_EQ(Sampler({.banned = {0, 1}}).sample(std::vector<float>{1, 2}).status().code(),
            Code::kFailed);
}

TEST(Sampler, SameSeedSameTokens) {
  const SamplingOptions o = {.temperature = 1.3f, .top_k = 3, .top_p = 0.95f, .seed = 42};
  const auto a = sample_many(four(), o, 200);
  EXPECT_EQ(a, sample_many(four(), o, 200));
  SamplingOptions other = o;
  other.seed = 43;
  EXPECT_NE(a, sample_many(four(), other, 200));
}

TEST(Sampler, TheStreamAdvancesWithAccept) {
  Sampler sampler(plain());
  const int32_t first = *sampler.sample(four());
  EXPECT_EQ(*sampler.sample(four()), first) << "not accepted yet: the same draw again";
  std::set<int32_t> seen;
  for (int i = 0; i < 50; i++) {
    seen.insert(*sampler.sample(four()));
    sampler.accept(0);
  }
  EXPECT_GT(seen.size(), 1u);
}

TEST(Sampler, SeedZeroChoosesOneThatCanBeRepeated) {
  SamplingOptions o = plain();
  o.seed = 0;
  Sampler sampler(o);
  ASSERT_NE(sampler.seed(), 0u);
  EXPECT_LT(sampler.seed(), uint64_t{1} << 48);
  EXPECT_NE(sampler.seed(), Sampler(o).seed());
  std::vector<int32_t> ids;
  for (int i = 0; i < 50; i++) {
    ids.push_back(*sampler.sample(four()));
    sampler.accept(ids.back());
  }
  o.seed = sampler.seed();
  EXPECT_EQ(ids, sample_many(four(), o, 50));
}

TEST(Sampler, ALargeVocabularyWithTiesAgreesWithASortedReference) {
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); i++) {
    logits[i] = float(int(sample::random_bits(5, i) % 23)) * 0.25f;
  }
  SamplingOptions o = {.temperature = 0.7f, .top_k = 400, .top_p = 0.8f, .seed = 9};
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = int32_t(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  order.resize(400);
  double total = 0, mass = 0;
  const auto weight = [&](int32_t id) { return std::exp(double(logits[id]) / double(0.7f)); };
  for (int32_t id : order) total += weight(id);
  std::set<int32_t> kept;
  for (int32_t id : order) {
    if (mass >= double(0.8f) * total) break;
    kept.insert(id);
    mass += weight(id);
  }
  const auto ids = sample_many(logits, o, 5000);
  std::set<int32_t> drawn(ids.begin(), ids.end());
  for (int32_t id : drawn) EXPECT_TRUE(kept.count(id)) << id;
  EXPECT_GT(drawn.size(), kept.size() * 9 / 10);
}

TEST(Candidates, AreTheMostLikelyInOrder) {
  for (const size_t n : {1, 3, 511, 512, 513, 1023, 1024, 1025, 5000, 20000}) {
    for (const int n_values : {1, 7, 1000000}) {
      std::vector<float> row(n);
      for (size_t i = 0; i < n; i++) {
        row[i] = float(int(sample::random_bits(n, i) % uint64_t(n_values))) * 0.01f;
        if (i % 97 == 96) row[i] = i % 2 ? kInf : -kInf;
      }
      std::vector<int32_t> order(n);
      for (size_t i = 0; i < n; i++) order[i] = int32_t(i);
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t a, int32_t b) { return row[a] > row[b]; });
      const Candidates c = candidates_of(row);
      ASSERT_EQ(c.n, int32_t(std::min<size_t>(n, Candidates::kMost)));
      EXPECT_EQ(c.first_nan, -1);
      for (int i = 0; i < c.n; i++) {
        ASSERT_EQ(c.ids[i], order[i]) << n << " values, place " << i;
        ASSERT_EQ(c.logits[i], row[order[i]]);
      }
    }
  }
}

TEST(Candidates, NaNIsFoundWhereverItIs) {
  for (const size_t at : {0, 511, 700, 2999}) {
    std::vector<float> row(3000);
    for (size_t i = 0; i < row.size(); i++) row[i] = -float(i);
    row[at] = std::nanf("");
    if (at < 2999) row[at + 1] = std::nanf("");
    EXPECT_EQ(candidates_of(row).first_nan, int32_t(at));
  }
}

// Candidates decide as the whole row does, whatever was asked for.
TEST(Sampler, CandidatesGiveTheTokensOfTheWholeRow) {
  std::vector<SamplingOptions> all;
  for (const float temperature : {0.0f, 0.6f, 1.0f, 5.0f}) {
    for (const float top_p : {1.0f, 0.95f, 0.3f}) {
      for (const int top_k : {0, 3, 2000}) {
        SamplingOptions o = {.temperature = temperature, .top_k = top_k, .top_p = top_p};
        all.push_back(o);
        o.min_p = 0.1f;
        all.push_back(o);
        o.presence_penalty = 0.7f;
        o.frequency_penalty = 0.3f;
        all.push_back(o);
        o.presence_penalty = -2;
        o.banned = {0, 17, 2900, 5, 40};
        all.push_back(o);
        o.logit_bias = {{2999, 30.0f}, {4, -2.0f}};
        all.push_back(o);
      }
    }
  }
  int n_rows = 0;
  for (size_t i = 0; i < all.size(); i++) {
    SamplingOptions o = all[i];
    o.seed = 100 + i;
    Sampler by_row(o), by_candidates(o);
    for (uint64_t step = 0; step < 30; step++) {
      std::vector<float> row(3000);
      for (size_t k = 0; k < row.size(); k++)
        row[k] = float(8 * sample::random_unit(step, k) + 8 * sample::random_unit(step + 99, k));
      if (step % 5 == 0)
        for (float& x : row) x = std::floor(x);
      const Candidates c = candidates_of(row);
      const auto want = by_row.sample(row);
      const auto got = by_candidates.sample(Prediction{c, [&] {
                                                         n_rows++;
                                                         return std::span<const float>(row);
                                                       }});
      ASSERT_TRUE(want.ok() && got.ok());
      ASSERT_EQ(*got, *want) << "options " << i << ", step " << step;
      by_row.accept(*want);
      by_candidates.accept(*got);
    }
  }
  EXPECT_EQ(n_rows, std::ssize(all) / 5 * 30) << "only a bias needs the row";
}

TEST(Sampler, WhereAllCandidatesAreBannedTheRestIsSampled) {
  std::vector<float> row(2000);
  SamplingOptions o = plain();
  for (size_t i = 0; i < row.size(); i++) {
    row[i] = i == 1900 ? 1.0f : 2000.0f - float(i);
    if (i < Candidates::kMost) o.banned.push_back(int32_t(i));
  }
  o.temperature = 0;
  EXPECT_EQ(sample_one(row, o), Candidates::kMost);
  o.banned.pop_back();
  EXPECT_EQ(sample_one(row, o), Candidates::kMost - 1);
}

TEST(Sampler, WhatIsLessLikelyThanTheCandidatesIsNeverSampled) {
  const std::vector<float> row(600, 1.0f);
  const auto ids = sample_many(row, plain(), 5000);
  EXPECT_LT(*std::max_element(ids.begin(), ids.end()), Candidates::kMost);
  EXPECT_GT(std::set<int32_t>(ids.begin(), ids.end()).size(), 500u);
}

TEST(CheckSampling, NamesTheFieldOutOfRange) {
  EXPECT_TRUE(check_sampling({}).ok());
  const auto refuses = [](const SamplingOptions& o, const std::string& field) {
    const Status s = check_sampling(o);
    EXPECT_EQ(s.code(), Code::kUsage) << field;
    EXPECT_EQ(s.message().rfind(field, 0), 0u) << s.message();
  };
  refuses({.temperature = -0.1f}, "temperature");
  refuses({.temperature = std::nanf("")}, "temperature");
  refuses({.temperature = kInf}, "temperature");
  refuses({.top_k = -1}, "top_k");
  refuses({.top_p = 1.1f}, "top_p");
  refuses({.min_p = -1}, "min_p");
  refuses({.presence_penalty = kInf}, "presence_penalty");
  refuses({.frequency_penalty = -kInf}, "frequency_penalty");
  refuses({.logit_bias = {{-1, 0.0f}}}, "logit_bias");
  refuses({.logit_bias = {{1, kInf}}}, "logit_bias");
  refuses({.banned = {-5}}, "banned");
}

}  // namespace
}  // namespace narwhal
