// Products of many rows, which run on matrix units in half precision, against the reference.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "devices.h"
#include "ops/ref/ref_ops.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

constexpr DType kTypes[] = {DType::kF16,  DType::kBF16,    DType::kQ8_0, DType::kQ4_K,
                            DType::kQ2_K, DType::kIQ2_XXS, DType::kMXFP4};

class Tiles : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    backend_ = *make_backend(GetParam(), {});
    ASSERT_TRUE(backend_
                    ->prepare({.n_rows = 160,
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
  Weight weight(DType type, int64_t n_in, int64_t n_out, int64_t n_experts = 1) {
    const auto values = random(n_in * n_out * n_experts, 1 / std::sqrt(static_cast<float>(n_in)));
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
    for (const int n_out : {5, 67, 128})
      for (const int n : {17, 64, 70}) {
        const Weight w = weight(type, 256, n_out);
        const auto x = random(n * 256);
        std::vector<float> got(n * n_out, NAN), want(n * n_out);
        backend_->ops().matmul(on(w), n, x.data(), got.data());
        ref_.matmul(w, n, x.data(), want.data());
        expect_close(got, want);
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

// Two sequences with rows of their own and older ones, windows, selected and all compressed rows.
TEST_P(Tiles, Attention) {
  constexpr int n = 40, heads = 19, window = 30, pages = 6, per_page = 24;
  const RowFormat formats[] = {{RowFormat::Kind::kAttention, 128, 64},
                               {RowFormat::Kind::kAttention, 512, 448},
                               {RowFormat::Kind::kF32, 96, 0}};
  for (const RowFormat& f : formats) {
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
      EXPECT_LT(std::sqrt(errors / squares), 5e-4) << f.dim << " dims, ratio " << ratio;
      expect_close(got, want, 1e-2);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Tiles, testing::ValuesIn(kernel_backends()),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace narwhal
