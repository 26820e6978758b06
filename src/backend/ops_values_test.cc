// Values and properties that hold for every backend, from the model description's list of checks.
// One body, run on each backend of the build.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>

#include "../../tests/gpu/devices.h"
#include "backend/backend.h"
#include "ops/row_codec.h"

namespace narwhal {
namespace {

class OpsValues : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto backend = make_test_backend(GetParam(), {.n_threads = 2});
    const bool gpu = is_gpu(GetParam());
    if (gpu && !backend.ok()) GTEST_SKIP() << backend.status().message();
    ASSERT_TRUE(backend.ok());
    backend_ = *std::move(backend);
    ASSERT_TRUE(backend_
                    ->prepare({.n_rows = 64,
                               .n_index_rows = 9001,
                               .max_width = 4096,
                               .n_experts_used = 8,
                               .n_experts = 256,
                               .n_hc = 4,
                               .d_model = 64,
                               .n_heads = 1,
                               .head_dim = 64})
                    .ok());
  }
  Ops& ops() { return backend_->ops(); }
  std::unique_ptr<Backend> backend_;
};

struct HcCase {
  std::vector<float> mixes, scale, base;
  std::vector<double> pre, post, comb;
};

// hc_gates multiplies by 1 / rms(X): with X of ones that factor is 1 up to eps.
std::vector<float> gates(Ops& ops, std::vector<float> mixes, const std::vector<float>& scale,
                         const std::vector<float>& base) {
  HcParams p;
  p.base = base.data();
  p.scale = scale.data();
  p.n_hc = 4;
  p.d = 64;
  p.sinkhorn_iterations = 20;
  p.hc_eps = 1e-6f;
  p.rms_eps = 0;
  const std::vector<float> X(4 * 64, 1.0f);
  ops.hc_gates(p, 1, X.data(), mixes.data());
  return mixes;
}

void expect_near(const float* got, const std::vector<double>& want, double tolerance) {
  for (size_t i = 0; i < want.size(); i++) EXPECT_NEAR(got[i], want[i], tolerance) << "at " << i;
}

TEST_P(OpsValues, HyperConnectionGates) {
  std::vector<float> m(24), base(24);
  for (int i = 0; i < 24; i++) {
    m[i] = 0.1f * (static_cast<float>(i) - 11.5f);
    base[i] = 0.05f * static_cast<float>((7 * i) % 5 - 2);
  }
  const auto g = gates(ops(), m, {1, 0.5f, 2}, base);
  expect_near(&g[0], {0.2227011, 0.2592261, 0.2994339, 0.2890515}, 1e-6);
  expect_near(&g[4], {0.8389154, 0.7906418, 0.8633600, 0.9375813}, 1e-6);
  expect_near(&g[8],
              {.2457284, .2618242, .2306221, .2618242, .2779200, .2306222, .2608347, .2306221,
               .2457284, .2618242, .2306221, .2618242, .2306222, .2457284, .2779200, .2457284},
              1e-6);
}

TEST_P(OpsValues, SinkhornFarFromConverged) {
  const auto run = [&](float factor) {
    std::vector<float> m(24);
    for (int i = 0; i < 24; i++) m[i] = factor * static_cast<float>((7 * i * i) % 11 - 5);
    return gates(ops(), m, {1, 1, 1}, std::vector<float>(24, 0.0f));
  };
  expect_near(&run(0.8f)[8],
              {.484725, .166855, .344298, .004117, .185951, .142455, .654193, .017394, .267486,
               .456051, .000704, .275762, .061838, .234638, .000805, .702726},
              2e-6);
  const auto strong = run(2);
  expect_near(&strong[8],
              {.773100, .074918, .147611, .000040, .081768, .058549, .852388, .000182, .142210,
               .752377, .000000, .107700, .002920, .114154, .000000, .892076},
              2e-6);
  const double row_sums[] = {.995670, .992887, 1.002288, 1.009150};
  for (int j = 0; j < 4; j++)
    EXPECT_NEAR(std::accumulate(&strong[8 + 4 * j], &strong[8 + 4 * j] + 4, 0.0), row_sums[j],
                5e-6);
}

// Distinct streams tell comb from its transpose.
TEST_P(OpsValues, PostMixesAlongTheFirstIndex) {
  HcParams p;
  p.n_hc = 2;
  p.d = 1;
  const std::vector<float> g = {0, 0, /*post*/ 10, 20, /*comb*/ 1, 2, 3, 4};
  std::vector<float> X = {5, 7};
  const std::vector<float> out = {1};
  ops().hc_post(p, 1, out.data(), g.data(), X.data());
  EXPECT_EQ(X[0], 10 + 1 * 5 + 3 * 7);
  EXPECT_EQ(X[1], 20 + 2 * 5 + 4 * 7);
}

TEST_P(OpsValues, HeadGatesHaveNoFactorTwoAndNoSinkhorn) {
  HcParams p;
  const std::vector<float> base = {0.1f, -0.2f, 0.3f, 0}, scale = {2};
  p.base = base.data();
  p.scale = scale.data();
  p.n_hc = 4;
  p.d = 8;
  p.hc_eps = 1e-2f;
  const std::vector<float> X(32, 1.0f);
  std::vector<float> m = {0.5f, -1, 2, 0};
  ops().hc_head_gates(p, 1, X.data(), m.data());
  const double want[] = {0.5 * 2 + 0.1, -2 - 0.2, 4 + 0.3, 0};
  for (int h = 0; h < 4; h++) EXPECT_NEAR(m[h], 1 / (1 + std::exp(-want[h])) + 1e-2, 1e-6);
}

TEST_P(OpsValues, SwigluClamps) {
  std::vector<float> g = {-50, 50, 1, 1}, u = {1, 1, 50, -50};
  ops().swiglu(4, 10, u.data(), g.data());
  const auto silu = [](double v) { return v / (1 + std::exp(-v)); };
  EXPECT_NEAR(g[0], silu(-50), 1e-20);  // no lower clamp on the gate: not silu(-10)
  EXPECT_NEAR(g[1], silu(10), 1e-5);
  EXPECT_NEAR(g[2], silu(1) * 10, 1e-5);
  EXPECT_NEAR(g[3], silu(1) * -10, 1e-5);
}

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Routed route(Ops& ops, const std::vector<float>& logits, const std::vector<float>& bias, int k,
             const std::vector<int32_t>& tid2eid = {}, int32_t token = 0) {
  Routed out{std::vector<int32_t>(k), std::vector<float>(k)};
  const std::vector<int32_t> tokens = {token}, zero = {0};
  const BatchRows b{1, tokens.data(), zero.data(), zero.data(), zero.data()};
  ops.route(b, logits.data(), static_cast<int>(logits.size()), bias.empty() ? nullptr : bias.data(),
            tid2eid.empty() ? nullptr : tid2eid.data(), k, 1.5f, out.ids.data(),
            out.weights.data());
  return out;
}

TEST_P(OpsValues, RouterScores) {
  // Two experts: weights are 1.5 s / sum s, so ratios give sqrt(softplus).
  const double s[] = {0.0067379, 0.5596979, 0.8325546, 1.1459763, 3.1622848};
  const std::vector<float> logits = {-10, -1, 0, 1, 10};
  const auto r = route(ops(), logits, std::vector<float>(5, 0.0f), 5);
  const double sum = std::accumulate(std::begin(s), std::end(s), 0.0);
  for (int i = 0; i < 5; i++) {
    EXPECT_EQ(r.ids[i], i);
    EXPECT_NEAR(r.weights[i], 1.5 * s[i] / sum, 1e-6);
  }
  const auto far = route(ops(), {-1000, 1000}, {0, 0}, 2);
  EXPECT_EQ(far.weights[0], 0);
  EXPECT_NEAR(far.weights[1], 1.5, 1e-6);
}

TEST_P(OpsValues, RouterBiasSelectsButDoesNotWeigh) {
  const std::vector<float> logits = {0, 1, 2, 3};
  const auto plain = route(ops(), logits, {0, 0, 0, 0}, 2);
  EXPECT_EQ(plain.ids, (std::vector<int32_t>{2, 3}));
  const auto same = route(ops(), logits, {0, 0, 0.25f, 0.5f}, 2);
  EXPECT_EQ(same.ids, plain.ids);
  EXPECT_EQ(same.weights, plain.weights);
  EXPECT_EQ(route(ops(), logits, {9, 0, 0, 0}, 2).ids, (std::vector<int32_t>{0, 3}));
}

TEST_P(OpsValues, RouterTiesTakeTheLowerExpert) {
  EXPECT_EQ(route(ops(), {1, 1, 1, 1}, {0, 0, 0, 0}, 2).ids, (std::vector<int32_t>{0, 1}));
}

TEST_P(OpsValues, RouterSurvivesVanishingScores) {
  const auto r = route(ops(), {-200, -300, -250}, {0, 0, 0}, 2);
  for (const float w : r.weights) EXPECT_TRUE(std::isfinite(w));
}

TEST_P(OpsValues, HashRoutingIgnoresScoresForSelection) {
  const std::vector<int32_t> table = {0, 1, 3, 2, /*token 2*/ 1, 0};
  const auto r = route(ops(), {5, 0, 0, 0}, {}, 2, table, 1);
  EXPECT_EQ(r.ids, (std::vector<int32_t>{2, 3}));
  EXPECT_NEAR(r.weights[0], 0.75, 1e-6);
  const std::vector<int32_t> twice = {1, 1};
  const auto d = route(ops(), {5, 0}, {}, 2, twice);
  EXPECT_EQ(d.ids, (std::vector<int32_t>{1, 1}));
  EXPECT_NEAR(d.weights[0] + d.weights[1], 1.5, 1e-6);
}

TEST_P(OpsValues, RopeTurnsAdjacentPairsAndBack) {
  constexpr int kDim = 12, kRope = 4;
  const std::vector<float> freq = {1, 0.25f};
  const std::vector<int32_t> position = {3, 1000000};
  const BatchRows b{2, nullptr, position.data(), nullptr, nullptr};
  std::vector<float> table(2 * kRope);
  ops().rope_table(b, freq.data(), kRope, table.data());
  EXPECT_NEAR(table[0], std::cos(3.0), 1e-7);
  EXPECT_NEAR(table[kRope + 2], std::cos(250000.0), 1e-6);
  std::vector<float> x(2 * kDim);
  std::iota(x.begin(), x.end(), 1.0f);
  const auto before = x;
  ops().rope_tail(2, 1, kDim, kRope, table.data(), false, x.data());
  for (int i = 0; i < kDim - kRope; i++) EXPECT_EQ(x[i], before[i]);
  EXPECT_NEAR(x[8], 9 * std::cos(3.0) - 10 * std::sin(3.0), 1e-5);
  EXPECT_NEAR(x[9], 9 * std::sin(3.0) + 10 * std::cos(3.0), 1e-5);
  ops().rope_tail(2, 1, kDim, kRope, table.data(), true, x.data());
  for (int i = 0; i < 2 * kDim; i++) EXPECT_NEAR(x[i], before[i], 1e-5);
}

// One sequence whose compressed rows are f32 and lie in one page.
struct Paged {
  explicit Paged(int n_rows, int dim) : data(n_rows * dim) {
    rows.pages = reinterpret_cast<std::byte*>(data.data());
    rows.table = page.data();
    rows.max_pages = 1;
    rows.rows_per_page = n_rows;
    rows.format = {RowFormat::Kind::kF32, dim, 0};
  }
  std::vector<float> data;
  std::vector<int32_t> page = {0};
  PagedRows rows;
};

std::vector<int32_t> select(Ops& ops, const std::vector<float>& scores, int32_t position, int k) {
  Paged paged(4096, 32);
  const std::vector<int32_t> zero = {0}, positions = {position};
  const BatchRows b{1, zero.data(), positions.data(), zero.data(), zero.data()};
  IndexParams p{1, k, static_cast<int>(scores.size()), 1, paged.rows};
  std::vector<int32_t> ids(k, -1);
  std::vector<int32_t> n = {0};
  ops.top_k(b, p, scores.data(), ids.data(), n.data());
  ids.resize(n[0]);
  return ids;
}

TEST_P(OpsValues, TopKPolicy) {
  const std::vector<float> scores = {1, 5, 3, 5, -2, 4, 0, -0.0f, 0, 9};
  EXPECT_EQ(select(ops(), scores, 39, 3), (std::vector<int32_t>{1, 3, 9}));
  EXPECT_EQ(select(ops(), scores, 35, 3), (std::vector<int32_t>{1, 3, 5}))
      << "row 9 is not yet visible";
  EXPECT_EQ(select(ops(), scores, 10, 3), (std::vector<int32_t>{0, 1})) << "fewer visible than k";
  EXPECT_EQ(select(ops(), scores, 2, 3), (std::vector<int32_t>{}));
  EXPECT_EQ(select(ops(), std::vector<float>(10, 0.0f), 39, 4), (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(select(ops(), {-3, -1, -2}, 11, 2), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(select(ops(), {NAN, 1, -INFINITY, INFINITY}, 15, 2), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(select(ops(), {0.0f, -0.0f, 0.0f}, 11, 2), (std::vector<int32_t>{0, 1}))
      << "-0 ties with +0";
}

TEST_P(OpsValues, TopKOfManyWithTies) {
  for (const int n : {511, 4097, 9001}) {
    std::vector<float> scores(n);
    for (int i = 0; i < n; i++) scores[i] = static_cast<float>(i * 7919 % 1009) * 0.25f - 100;
    std::vector<int32_t> want(n);
    std::iota(want.begin(), want.end(), 0);
    std::stable_sort(want.begin(), want.end(),
                     [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
    want.resize(500);
    std::sort(want.begin(), want.end());
    EXPECT_EQ(select(ops(), scores, 4 * n - 1, 500), want) << n;
  }
}

TEST_P(OpsValues, BestLogitsPolicy) {
  const std::vector<float> logits = {1, 5, NAN, 5, -INFINITY, INFINITY, -0.0f, 0};
  const auto found = std::make_unique<Candidates>();
  ops().best_logits(1, 8, logits.data(), found.get());
  ops().sync();
  const Candidates& best = *found;
  EXPECT_EQ(best.n, 8);
  EXPECT_EQ(best.first_nan, 2);
  EXPECT_EQ(std::vector<int32_t>(best.ids, best.ids + 9),
            (std::vector<int32_t>{5, 1, 3, 0, 6, 7, 2, 4, -1}))
      << "-0 ties with +0, NaN with -inf";
  EXPECT_EQ(std::vector<float>(best.logits, best.logits + 9),
            (std::vector<float>{INFINITY, 5, 5, 1, 0, 0, -INFINITY, -INFINITY, -INFINITY}));
}

// Attention over a ring of f32 rows.
struct Attention {
  static constexpr int kDim = 4;
  std::vector<float> ring = std::vector<float>(64 * kDim), batch, q, out;
  std::vector<float> sinks = {0};
  AttentionParams p;

  explicit Attention(int n_rows) : batch(n_rows * kDim), q(n_rows * kDim), out(n_rows * kDim) {
    p.n_heads = 1;
    p.head_dim = kDim;
    p.window = 3;
    p.row = {RowFormat::Kind::kF32, kDim, 0};
    p.ring = {reinterpret_cast<std::byte*>(ring.data()), 0, 0, 64, kDim * 4};
  }
  void run(Ops& ops, std::vector<int32_t> position, std::vector<int32_t> first_row) {
    const std::vector<int32_t> zero(position.size(), 0);
    p.batch_rows = reinterpret_cast<const std::byte*>(batch.data());
    p.sinks = sinks.data();
    const BatchRows b{static_cast<int>(position.size()), zero.data(), position.data(), zero.data(),
                      first_row.data()};
    ops.attention(b, p, q.data(), out.data());
  }
};

TEST_P(OpsValues, WindowHoldsTheNewestRowsOnly) {
  // Keys are one-hot by position; q = 0 makes all weights equal, so the output shows who is
  // visible.
  Attention a(2);
  for (int position = 0; position < 10; position++)
    for (int i = 0; i < a.kDim; i++)
      a.ring[position * a.kDim + i] = position % 4 == i ? 4.0f : 0.0f;
  a.batch = {0, 0, 4, 0, /**/ 0, 0, 0, 4};
  a.sinks[0] = -INFINITY;
  a.run(ops(), {10, 11}, {0, 0});  // windows 8 9 10 and 9 10 11
  const double third = 4.0 / 3;
  expect_near(a.out.data(), {third, third, third, 0, 0, third, third, third}, 1e-6);
}

TEST_P(OpsValues, SinkEnlargesTheDenominatorOnly) {
  Attention a(1);
  a.batch = {1, 2, 3, 4};
  a.q = {0.5f, 0, 0, 0};
  a.sinks[0] = 0.7f;
  a.run(ops(), {0}, {0});
  const double e = std::exp(0.5 / 2),
               share = e / (e + std::exp(0.7));  // scale 4^-0.5; sink unscaled
  expect_near(a.out.data(), {share, 2 * share, 3 * share, 4 * share}, 1e-6);
  a.sinks[0] = 1000;
  a.run(ops(), {0}, {0});
  expect_near(a.out.data(), {0, 0, 0, 0}, 1e-12);
  a.sinks[0] = -1000;
  a.run(ops(), {0}, {0});
  expect_near(a.out.data(), {1, 2, 3, 4}, 1e-6);
}

// A compressor of ratio 4 with overlap over known k and s.
struct Compressor {
  static constexpr int kDim = 32, kWidth = 64;
  Paged out{16, kDim};
  std::vector<float> ring_k = std::vector<float>(24 * kWidth, NAN), ring_s = ring_k;
  std::vector<float> norm = std::vector<float>(kDim, 1.0f), freq = {0.5f};
  CompressorParams p;

  Compressor() {
    p.ratio = 4;
    p.overlap = true;
    p.norm = norm.data();
    p.rms_eps = 1e-6f;
    p.rope_freq = freq.data();
    p.rope = 2;
    p.k_ring = {reinterpret_cast<std::byte*>(ring_k.data()), 0, 0, 24, kWidth * 4};
    p.s_ring = {reinterpret_cast<std::byte*>(ring_s.data()), 0, 0, 24, kWidth * 4};
    p.out = out.rows;
  }
  // Rows of the tokens of k, s as one step from position 0, then the row with index w.
  std::vector<float> row(Ops& ops, const std::vector<float>& k, const std::vector<float>& s,
                         int w) {
    const auto n = k.size() / kWidth;
    std::vector<int32_t> position(n), zero(n, 0);
    std::iota(position.begin(), position.end(), 0);
    const BatchRows b{static_cast<int>(n), zero.data(), position.data(), zero.data(), zero.data()};
    p.out.table = out.page.data();
    ops.compress(b, p, k.data(), s.data());
    return {out.data.begin() + w * kDim, out.data.begin() + (w + 1) * kDim};
  }
};

struct Tokens {
  std::vector<float> k, s;
  explicit Tokens(int n, uint32_t seed = 1) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    for (int i = 0; i < n * Compressor::kWidth; i++) {
      k.push_back(normal(rng));
      s.push_back(normal(rng));
    }
  }
};

TEST_P(OpsValues, CompressorHalves) {
  Compressor c;
  const Tokens base(12);
  const auto row = [&](const Tokens& t, int w) { return c.row(ops(), t.k, t.s, w); };
  for (int half = 0; half < 2; half++) {
    Tokens t = base;  // token 5 lies in window 1
    t.k[5 * c.kWidth + half * c.kDim + 3] += 1;
    EXPECT_EQ(row(base, 0), row(t, 0));
    // Half A acts in the next window's row, half B in its own.
    EXPECT_EQ(row(base, 1) == row(t, 1), half == 0);
    EXPECT_EQ(row(base, 2) == row(t, 2), half == 1);
  }
}

TEST_P(OpsValues, FirstCompressedRowUsesItsOwnTokensOnly) {
  Compressor c;
  const Tokens t(4);
  const auto got = c.row(ops(), t.k, t.s, 0);
  std::vector<double> want(c.kDim);
  double squares = 0;
  for (int i = 0; i < c.kDim; i++) {
    double sum = 0;
    for (int j = 0; j < 4; j++) {
      const double weight = std::exp(double(t.s[j * c.kWidth + c.kDim + i]));
      sum += weight;
      want[i] += weight * t.k[j * c.kWidth + c.kDim + i];
    }
    want[i] /= sum;
    squares += want[i] * want[i];
  }
  for (double& v : want) v /= std::sqrt(squares / c.kDim + 1e-6);
  expect_near(got.data(), want, 1e-5);  // rope at position 0 turns nothing
}

TEST_P(OpsValues, CompressedRowTurnsAtItsFirstToken) {
  Compressor still, turning;
  still.freq = {0};
  still.p.rope_freq = still.freq.data();
  const Tokens t(8);
  const auto flat = still.row(ops(), t.k, t.s, 1), turned = turning.row(ops(), t.k, t.s, 1);
  const double angle = 4 * 0.5, a = flat[30], b = flat[31];
  EXPECT_NEAR(turned[30], a * std::cos(angle) - b * std::sin(angle), 1e-5);
  EXPECT_NEAR(turned[31], a * std::sin(angle) + b * std::cos(angle), 1e-5);
  for (int i = 0; i < 30; i++) EXPECT_EQ(turned[i], flat[i]);
}

INSTANTIATE_TEST_SUITE_P(Backends, OpsValues, testing::ValuesIn(backend_names()),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace narwhal
