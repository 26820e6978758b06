// Products of many rows, which run on matrix units in half precision, against the reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "devices.h"
#include "ops/ref/ref_ops.h"
#include "quant/f16.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

constexpr DType kTypes[] = {DType::kF16,  DType::kBF16,    DType::kQ8_0, DType::kQ4_K,
                            DType::kQ2_K, DType::kIQ2_XXS, DType::kMXFP4};

class Tiles : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    backend_ = *make_test_backend(GetParam(), {});
    ASSERT_TRUE(backend_
                    ->prepare({.n_rows = 300,
                               .max_width = 512,
                               .n_experts_used = 3,
                               .n_experts = 11,
                               .n_hc = 4,
                               .d_model = 512,
                               .n_heads = 19,
                               .head_dim = 512})
                    .ok());
  }
  std::vector<float> random(int64_t n, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> v(n);
    for (float& x : v) x = normal(rng_);
    return v;
  }
  Weight weight(DType type, int64_t n_in, int64_t n_out, int64_t n_experts = 1, float scale = 1) {
    const auto values =
        random(n_in * n_out * n_experts, scale / std::sqrt(static_cast<float>(n_in)));
    const std::vector<float> importance(n_in, 1.0f);
    stores_.emplace_back(row_bytes(type, n_in) * n_out * n_experts);
    std::vector<std::byte>& store = stores_.back();
    for (int64_t r = 0; r < n_out * n_experts; r++)
      quant::encode_row(type, &values[r * n_in], n_in, importance.data(),
                        &store[r * row_bytes(type, n_in)]);
    return {store.data(), type, n_in, n_out, n_experts};
  }
  Weight on(const Weight& w) { return *backend_->adopt(w, Placement::kDevice); }

  std::mt19937 rng_{7};
  std::vector<std::vector<std::byte>> stores_;
  RefOps ref_;
  std::unique_ptr<Backend> backend_;
};

void expect_close(const std::vector<float>& got, const std::vector<float>& want,
                  double tolerance = 3e-3) {
  double worst = 0, squares = 0;
  for (size_t i = 0; i < want.size(); i++) {
    ASSERT_FALSE(std::isnan(got[i])) << i;
    worst = std::max(worst, std::fabs(double(got[i]) - want[i]));
    squares += double(want[i]) * want[i];
  }
  EXPECT_LT(worst / std::sqrt(squares / static_cast<double>(want.size())), tolerance);
}

TEST_P(Tiles, MatmulOfEveryType) {
  for (const DType type : kTypes)
    for (const auto& [n_out, n] : {std::pair{5, 17}, {67, 64}, {128, 33}, {130, 70}, {257, 150}}) {
      const Weight w = weight(type, 256, n_out);
      const auto x = random(n * 256);
      std::vector<float> got(n * n_out, NAN), want(n * n_out);
      backend_->ops().matmul(on(w), n, x.data(), got.data());
      ref_.matmul(w, n, x.data(), want.data());
      expect_close(got, want);
    }
}

// Inputs that are rows of the unit matrix give back the weights, each as the nearest half, in tiles
// of both sizes; large and subnormal ones, too.
TEST_P(Tiles, WeightsAreTheNearestHalves) {
  constexpr int width = 256;
  for (const DType type : kTypes)
    for (const float scale : {1.0f, 3e-4f, 2e4f})
      for (const auto& [n_out, n] : {std::pair{40, 64}, {130, width}}) {
        const Weight w = weight(type, width, n_out, 1, scale);
        std::vector<float> x(n * width), got(n * n_out, NAN), row(width);
        for (int r = 0; r < n; r++) x[r * width + (3 * r + 1) % width] = 1;
        backend_->ops().matmul(on(w), n, x.data(), got.data());
        for (int o = 0; o < n_out; o++) {
          quant::decode_row(type, w.data + o * row_bytes(type, width), width, row.data());
          for (int r = 0; r < n; r++)
            ASSERT_EQ(got[r * n_out + o],
                      quant::f16_to_f32(quant::f32_to_f16(row[(3 * r + 1) % width])))
                << dtype_name(type) << " times " << scale << ", output " << o << ", row " << r;
        }
      }
}

// All powers of two that scale MXFP4, with all of its codes.
TEST_P(Tiles, EveryScaleOfMxfp4) {
  constexpr int width = 128, n_out = 255;
  stores_.emplace_back(row_bytes(DType::kMXFP4, width) * n_out);
  std::vector<std::byte>& store = stores_.back();
  for (size_t i = 0; i < store.size(); i++) store[i] = static_cast<std::byte>(i * 37 % 251);
  for (int o = 0; o < n_out; o++)
    for (int b = 0; b < width / 32; b++) store[(o * 4 + b) * 17] = static_cast<std::byte>(o);
  const Weight w{store.data(), DType::kMXFP4, width, n_out, 1};
  std::vector<float> x(width * width), got(width * n_out, NAN), row(width);
  for (int r = 0; r < width; r++) x[r * width + r] = 1;
  backend_->ops().matmul(on(w), width, x.data(), got.data());
  // An infinite weight times the zeros beside the one is not a number.
  for (int o = 0; o <= 127 + 13; o++) {
    quant::decode_row(w.type, w.data + o * row_bytes(w.type, width), width, row.data());
    for (int r = 0; r < width; r++)
      ASSERT_EQ(got[r * n_out + o], quant::f16_to_f32(quant::f32_to_f16(row[r])))
          << "2^" << o - 127;
  }
}

// A row has the same bits in a tile of few and of many rows, wherever it stands.
TEST_P(Tiles, RowsDoNotDependOnTheTile) {
  constexpr int width = 384, n_out = 300, many = 290, few = 20, first = 130;
  const Weight w = on(weight(DType::kQ8_0, width, n_out));
  const auto x = random(many * width);
  std::vector<float> all(many * n_out, NAN), some(few * n_out, NAN);
  backend_->ops().matmul(w, many, x.data(), all.data());
  backend_->ops().matmul(w, few, &x[first * width], some.data());
  for (int i = 0; i < few * n_out; i++) ASSERT_EQ(some[i], all[first * n_out + i]) << i;
}

TEST_P(Tiles, ProductsOfOneInputShareALaunch) {
  constexpr int width = 128, n = 140;
  const int n_out[] = {130, 5, 128, 300, 64};
  const DType types[] = {DType::kQ8_0, DType::kF16, DType::kQ8_0, DType::kF16, DType::kF32};
  const auto x = random(n * width);
  std::vector<Weight> weights, stored;
  std::vector<std::vector<float>> got;
  std::vector<Product> products;
  for (int i = 0; i < 5; i++) {
    stored.push_back(weight(types[i], width, n_out[i]));
    weights.push_back(on(stored.back()));
    got.emplace_back(n * n_out[i], NAN);
  }
  for (int i = 0; i < 5; i++) products.push_back({&weights[i], got[i].data()});
  backend_->ops().matmuls(products, n, x.data());
  for (int i = 0; i < 5; i++) {
    std::vector<float> want(got[i].size());
    ref_.matmul(stored[i], n, x.data(), want.data());
    expect_close(got[i], want);
  }
}

TEST_P(Tiles, GroupsSeeTheirOwnInputs) {
  const Weight w = weight(DType::kQ8_0, 128, 3 * 70);
  const auto x = random(33 * 3 * 128);
  std::vector<float> got(33 * 210, NAN), want(33 * 210);
  backend_->ops().grouped_matmul(on(w), 3, 33, x.data(), got.data());
  ref_.grouped_matmul(w, 3, 33, x.data(), want.data());
  expect_close(got, want);
}

TEST_P(Tiles, ExpertsOfEveryType) {
  constexpr int d = 512, inner = 256, k = 3, n = 150;
  for (const DType type : kTypes) {
    const ExpertParams p{weight(type, d, inner, 11), weight(type, d, inner, 11),
                         weight(type, inner, d, 11), 0.8f};
    const auto x = random(n * d), weights = random(n * k);
    // Expert 4 takes more than a tile of rows, expert 10 none.
    std::vector<int32_t> ids;
    for (int r = 0; r < n; r++)
      for (const int e : {r % 4, 4, 5 + r % 5}) ids.push_back(e);
    std::vector<float> hidden(n * k * inner, NAN), want_hidden = hidden, got(n * d, NAN),
                                                   want = got;
    backend_->ops().routed_experts({on(p.w1), on(p.w3), on(p.w2), p.limit}, n, k, x.data(),
                                   ids.data(), weights.data(), hidden.data(), got.data());
    ref_.routed_experts(p, n, k, x.data(), ids.data(), weights.data(), want_hidden.data(),
                        want.data());
    expect_close(hidden, want_hidden, 1e-2);
    expect_close(got, want, 1e-2);
  }
}

TEST_P(Tiles, SharedExpertOfManyRows) {
  constexpr int d = 256, inner = 384, n = 70;
  const ExpertParams p{weight(DType::kQ8_0, d, inner), weight(DType::kQ8_0, d, inner),
                       weight(DType::kQ8_0, inner, d), 0.8f};
  const auto x = random(n * d);
  std::vector<float> gate(n * inner), up = gate, down(n * d), got = random(n * d), want = got;
  backend_->ops().shared_expert({on(p.w1), on(p.w3), on(p.w2), p.limit}, n, x.data(), gate.data(),
                                up.data(), down.data(), got.data());
  ref_.shared_expert(p, n, x.data(), gate.data(), up.data(), down.data(), want.data());
  expect_close(got, want);
}

// Three experts share many rows, so that tiles are large: one takes more than a tile, one exactly
// one, one nothing. A row alone with 17 others has the same bits.
TEST_P(Tiles, ExpertsOfManyRows) {
  constexpr int d = 128, inner = 256, k = 2, n = 290, few = 18, first = 120, n_experts = 4;
  const ExpertParams p{weight(DType::kQ8_0, d, inner, n_experts),
                       weight(DType::kQ8_0, d, inner, n_experts),
                       weight(DType::kQ2_K, inner, d, n_experts), 0.8f};
  const ExpertParams there{on(p.w1), on(p.w3), on(p.w2), p.limit};
  const auto x = random(n * d), weights = random(n * k);
  std::vector<int32_t> ids;
  for (int r = 0; r < n; r++)
    for (const int e : {r < 128 ? 0 : 3, 1}) ids.push_back(e);
  std::vector<float> hidden(n * k * inner, NAN), want_hidden = hidden, got(n * d, NAN), want = got;
  backend_->ops().routed_experts(there, n, k, x.data(), ids.data(), weights.data(), hidden.data(),
                                 got.data());
  ref_.routed_experts(p, n, k, x.data(), ids.data(), weights.data(), want_hidden.data(),
                      want.data());
  expect_close(hidden, want_hidden, 1e-2);
  expect_close(got, want, 1e-2);

  std::vector<float> some(few * d, NAN);
  backend_->ops().routed_experts(there, few, k, &x[first * d], &ids[first * k], &weights[first * k],
                                 hidden.data(), some.data());
  for (int i = 0; i < few * d; i++) ASSERT_EQ(some[i], got[first * d + i]) << i;
}

// Two sequences with rows of their own and older ones, windows, selected and all compressed rows.
TEST_P(Tiles, Attention) {
  constexpr int n = 40, window = 30, pages = 6, per_page = 24;
  struct Case {
    RowFormat format;
    int heads;
  };
  const Case cases[] = {{{RowFormat::Kind::kAttention, 128, 64}, 19},
                        {{RowFormat::Kind::kAttention, 512, 448}, 19},
                        {{RowFormat::Kind::kAttention, 512, 448}, 64},
                        {{RowFormat::Kind::kAttention, 208, 192}, 67},
                        {{RowFormat::Kind::kF32, 96, 0}, 19}};
  for (const auto& [format, heads] : cases) {
    const RowFormat f = format;  // lambdas of clang 14 cannot take a part of a pair
    const int capacity = window + 16;
    std::vector<int32_t> token(n), position(n), slot(n), first_row(n);
    for (int r = 0; r < n; r++) {
      slot[r] = r >= 25;
      first_row[r] = r < 25 ? 0 : 25;
      position[r] = r < 25 ? 200 + r : r - 25;  // the second begins here
    }
    const BatchRows b{n, token.data(), position.data(), slot.data(), first_row.data()};
    const auto rows = [&](int count, float scale) {
      std::vector<std::byte> bytes(static_cast<size_t>(count) * f.bytes());
      ref_.encode_rows(f, count, random(int64_t{count} * f.dim, scale).data(), bytes.data());
      return bytes;
    };
    auto batch = rows(n, 1), ring = rows(2 * capacity, 1), compressed = rows(pages * per_page, 2);
    std::vector<int32_t> table{4, 0, 2, 5, 1, 3}, selected, n_selected;
    for (int r = 0; r < n; r++) {
      int count = 0;
      for (int c = r % 3; c < (position[r] + 1) / 4 && count < 9; c += 5, count++)
        selected.push_back(c);
      n_selected.push_back(count);
      selected.resize(9 * (r + 1));
    }
    const auto sinks = random(heads), q = random(int64_t{n} * heads * f.dim);
    for (const int ratio : {0, 4, 128}) {
      AttentionParams p;
      p.n_heads = heads;
      p.head_dim = f.dim;
      p.window = window;
      p.row = f;
      p.batch_rows = batch.data();
      p.ring = {ring.data(), capacity * f.bytes(), 0, capacity, f.bytes()};
      p.ratio = ratio;
      p.compressed = {compressed.data(), per_page * f.bytes(), 0, table.data(), 3, per_page, f};
      if (ratio == 4) p.selected = selected.data(), p.n_selected = n_selected.data();
      p.top_k = 9;
      p.sinks = sinks.data();
      std::vector<float> got(q.size(), NAN), want(q.size());
      backend_->ops().attention(b, p, q.data(), got.data());
      ref_.attention(b, p, q.data(), want.data());
      double squares = 0, errors = 0;
      for (size_t i = 0; i < want.size(); i++) {
        ASSERT_FALSE(std::isnan(got[i])) << i;
        squares += double(want[i]) * want[i];
        errors += (double(got[i]) - want[i]) * (double(got[i]) - want[i]);
      }
      EXPECT_LT(std::sqrt(errors / squares), 5e-4)
          << f.dim << " dims, " << heads << " heads, ratio " << ratio;
      expect_close(got, want, 1e-2);
    }
  }
}

// One sequence of more keys than addresses are looked up at a time, and sinks that lie far below
// and above the scores: the maximum of the softmax moves often, and never. Where a prompt is cut
// does not matter.
TEST_P(Tiles, AttentionOfManyKeys) {
  constexpr int n = 18, cut = 1, heads = 33, window = 200, per_page = 128, n_pages = 3;
  const RowFormat f{RowFormat::Kind::kAttention, 512, 448};
  const std::vector<int32_t> token(n), slot(n), first_row(n);
  std::vector<int32_t> position(n), table(n_pages);
  std::iota(position.begin(), position.end(), 500);
  std::iota(table.begin(), table.end(), 0);
  const BatchRows b{n, token.data(), position.data(), slot.data(), first_row.data()};
  const auto rows = [&](int count) {
    std::vector<std::byte> bytes(static_cast<size_t>(count) * f.bytes());
    auto values = random(int64_t{count} * f.dim);
    // Later keys grow, so that later scores are larger.
    for (size_t i = 0; i < values.size(); i++)
      values[i] *= 1 + 6.0f * static_cast<float>(i) / static_cast<float>(values.size());
    ref_.encode_rows(f, count, values.data(), bytes.data());
    return bytes;
  };
  auto batch = rows(n), ring = rows(window + 16), compressed = rows(n_pages * per_page);
  std::vector<float> sinks(heads);
  for (int h = 0; h < heads; h++) sinks[h] = static_cast<float>(h % 3 * 40 - 40);
  const auto q = random(int64_t{n} * heads * f.dim);
  AttentionParams p;
  p.n_heads = heads;
  p.head_dim = f.dim;
  p.window = window;
  p.row = f;
  p.batch_rows = batch.data();
  p.ring = {ring.data(), 0, 0, window + 16, f.bytes()};
  p.ratio = 4;
  p.compressed = {compressed.data(), per_page * f.bytes(), 0, table.data(), n_pages, per_page, f};
  p.sinks = sinks.data();
  std::vector<float> got(q.size(), NAN), want(q.size());
  backend_->ops().attention(b, p, q.data(), got.data());
  ref_.attention(b, p, q.data(), want.data());
  expect_close(got, want, 2e-2);

  ref_.ring_store({cut, token.data(), position.data(), slot.data(), first_row.data()}, p.ring,
                  batch.data());
  p.batch_rows = batch.data() + cut * f.bytes();
  std::vector<float> later(int64_t{n - cut} * heads * f.dim, NAN);
  backend_->ops().attention({n - cut, &token[cut], &position[cut], &slot[cut], &first_row[cut]}, p,
                            &q[int64_t{cut} * heads * f.dim], later.data());
  EXPECT_TRUE(std::equal(later.begin(), later.end(), got.begin() + int64_t{cut} * heads * f.dim));
}

// Scores of three sequences, one of which begins here; decode and prompts agree bit for bit, also
// where other rows lie beside them.
TEST_P(Tiles, IndexScores) {
  constexpr int n = 45, dim = 128, per_page = 24, max_pages = 9, max_rows = 210;
  const RowFormat f{RowFormat::Kind::kIndex, dim, 0};
  std::vector<int32_t> token(n), position(n), slot(n), first_row(n), table(3 * max_pages);
  for (int r = 0; r < n; r++) {
    slot[r] = r < 18 ? 2 : r < 23 ? 0 : 1;
    first_row[r] = r < 18 ? 0 : r < 23 ? 18 : 23;
    position[r] = r - first_row[r] + (r < 18 ? 790 : r < 23 ? 0 : 300);
  }
  for (size_t i = 0; i < table.size(); i++) table[i] = static_cast<int32_t>(i * 5 % table.size());
  const size_t n_stored = table.size() * per_page;
  std::vector<std::byte> pages(n_stored * f.bytes());
  ref_.encode_rows(f, static_cast<int>(n_stored),
                   random(static_cast<int64_t>(n_stored) * dim).data(), pages.data());
  for (const int heads : {5, 16, 39, 64}) {
    auto q = random(int64_t{n} * heads * dim);
    const auto w = random(n * heads);
    ref_.index_query(f, n, heads, q.data());
    const auto rows = [&](int first, int count) {
      return BatchRows{count, &token[first], &position[first], &slot[first], &first_row[first]};
    };
    const IndexParams p{
        heads,
        8,
        max_rows,
        n,
        {pages.data(), per_page * f.bytes(), 0, table.data(), max_pages, per_page, f}};
    std::vector<float> got(n * max_rows, -1), want = got, alone = got;
    backend_->ops().index_scores(rows(0, n), p, q.data(), w.data(), got.data());
    ref_.index_scores(rows(0, n), p, q.data(), w.data(), want.data());
    expect_close(got, want, 2e-5);
    for (const int r : {0, 17, 18, 21, 22, 44})
      backend_->ops().index_scores(rows(r, 1), p, &q[r * heads * dim], &w[r * heads],
                                   &alone[r * max_rows]);
    backend_->ops().index_scores(rows(2, 15), p, &q[2 * heads * dim], &w[2 * heads],
                                 &alone[2 * max_rows]);
    backend_->ops().index_scores(rows(25, 19), p, &q[25 * heads * dim], &w[25 * heads],
                                 &alone[25 * max_rows]);
    for (int i = 0; i < n * max_rows; i++) {
      const int r = i / max_rows;
      const bool asked = r == 0 || (r >= 2 && r <= 18) || r == 21 || r == 22 || r >= 25;
      ASSERT_EQ(alone[i], asked ? got[i] : -1) << heads << " heads, row " << r;
    }

    // Queries that see few rows take all of them; for the others the scores decide.
    const IndexParams half{heads, 90, max_rows, 20, p.rows};
    std::vector<int32_t> selected(n * 90, -1), want_selected = selected, count(n), want_count(n);
    backend_->ops().index_select(rows(0, n), half, q.data(), w.data(), alone.data(),
                                 selected.data(), count.data());
    ref_.top_k(rows(0, n), half, got.data(), want_selected.data(), want_count.data());
    EXPECT_EQ(selected, want_selected);
    EXPECT_EQ(count, want_count);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Tiles, testing::ValuesIn(kernel_backends()),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace narwhal
