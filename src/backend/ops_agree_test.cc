// Every op of every backend against the scalar reference, on random inputs of odd shapes.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <list>
#include <random>

#include "../../tests/gpu/devices.h"
#include "backend/backend.h"
#include "backend/cpu/kernels/kernels.h"
#include "ops/ref/ref_ops.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

constexpr int kRows = 7;

std::vector<std::string> device_names() {
  std::vector<std::string> names = backend_names();
  std::erase(names, "ref");
  for (const cpu::Level level : cpu::available_levels())  // "cpu" itself is the fastest
    names.push_back("cpu_" + std::string(cpu::level_name(level)));
  return names;
}

bool is_cpu(const std::string& name) { return name.starts_with("cpu"); }

Result<std::unique_ptr<Backend>> make_device(const std::string& name) {
  if (name.starts_with("cpu_"))
    return make_backend("cpu", {.n_threads = 3, .cpu_level = name.substr(4)});
  return make_test_backend(name, {.n_threads = 3});
}

// Activations in 16 bits per 32, the largest as `most`, and in 8 bits per 256.
std::vector<float> in_16_bits(std::vector<float> x, float most) {
  for (size_t b = 0; b < x.size(); b += 32) {
    float top = 0;
    for (size_t i = b; i < b + 32; i++) top = std::max(top, std::fabs(x[i]));
    if (top == 0) continue;
    const float scale = top / most;
    for (size_t i = b; i < b + 32; i++) x[i] = std::nearbyint(x[i] * (most / top)) * scale;
  }
  return x;
}
std::vector<float> in_8_bits(std::vector<float> x) {
  std::vector<quant::Q8K> blocks(x.size() / 256);
  quant::encode_q8_k(x.data(), static_cast<int64_t>(blocks.size()), blocks.data());
  quant::decode_q8_k(blocks.data(), static_cast<int64_t>(blocks.size()), x.data());
  return x;
}

class OpsAgree : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto backend = make_device(GetParam());
    const bool gpu = is_gpu(GetParam());
    if (gpu && !backend.ok()) GTEST_SKIP() << backend.status().message();
    ASSERT_TRUE(backend.ok());
    backend_ = *std::move(backend);
    ASSERT_TRUE(backend_
                    ->prepare({.n_rows = 64,
                               .n_index_rows = 4096,
                               .max_width = 2048,
                               .n_experts_used = 8,
                               .n_experts = 64,
                               .n_hc = 4,
                               .d_model = 256,
                               .n_heads = 20,
                               .head_dim = 512})
                    .ok());
  }
  Ops& ops() { return backend_->ops(); }

  std::vector<float> random(int64_t n, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> v(n);
    for (float& x : v) x = normal(rng_);
    return v;
  }
  // A weight of any type with well-scaled values; the bytes live in `store`.
  Weight weight(DType type, int64_t n_in, int64_t n_out, std::vector<std::byte>& store,
                int64_t n_experts = 1) {
    const auto values = random(n_in * n_out * n_experts, 1 / std::sqrt(static_cast<float>(n_in)));
    const std::vector<float> importance(n_in, 1.0f);
    store.resize(row_bytes(type, n_in) * n_out * n_experts);
    for (int64_t r = 0; r < n_out * n_experts; r++)
      quant::encode_row(type, &values[r * n_in], n_in, importance.data(),
                        &store[r * row_bytes(type, n_in)]);
    return {store.data(), type, n_in, n_out, n_experts};
  }

  // As the backend computes with it; the reference takes the stored form.
  Weight on(const Weight& w) {
    auto adopted = backend_->adopt(w, Placement::kDevice);
    EXPECT_TRUE(adopted.ok());
    return *adopted;
  }
  // What the backend takes the activations of n rows for (cpu/kernels/kernels.h, kernels/dot.h).
  std::vector<float> taken(DType type, int n, const std::vector<float>& x) const {
    if (is_cpu(GetParam())) {
      const cpu::ActKind kind = cpu::act_kind(type);
      return kind == cpu::ActKind::kInt8    ? in_8_bits(x)
             : kind == cpu::ActKind::kInt16 ? in_16_bits(x, 32767)
                                            : x;
    }
    const bool floats = type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
    return n > 16 || floats ? x : in_16_bits(x, 32639);
  }
  ExpertParams on(const ExpertParams& p) { return {on(p.w1), on(p.w3), on(p.w2), p.limit}; }

  std::mt19937 rng_{42};
  RefOps ref_;
  std::unique_ptr<Backend> backend_;
};

// Largest difference relative to the largest value.
void expect_close(const std::vector<float>& got, const std::vector<float>& want,
                  double tolerance = 2e-6) {
  double top = 1e-30, worst = 0;
  size_t at = 0;
  for (size_t i = 0; i < want.size(); i++) {
    ASSERT_EQ(std::isnan(got[i]), std::isnan(want[i])) << "at " << i;
    if (std::isnan(want[i])) continue;
    top = std::max(top, std::fabs(double(want[i])));
    if (const double d = std::fabs(double(got[i]) - want[i]); d > worst) worst = d, at = i;
  }
  EXPECT_LE(worst / top, tolerance) << "at " << at << ": " << got[at] << " against " << want[at];
}

// Three sequences in one step, at positions that straddle windows of 4 and 128.
struct Batch {
  std::vector<int32_t> token{1, 2, 3, 0, 2, 1, 0}, position{126, 127, 128, 5, 200, 201, 202},
      slot{0, 0, 0, 1, 2, 2, 2}, first_row{0, 0, 0, 3, 4, 4, 4};
  BatchRows rows{kRows, token.data(), position.data(), slot.data(), first_row.data()};
};

TEST_P(OpsAgree, MatmulOfEveryType) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_K,
                           DType::kQ2_K, DType::kIQ2_XXS, DType::kMXFP4}) {
    for (const int n_out : {1, 5, 67, 419}) {  // 419: several tiles a group
      std::vector<std::byte> store;
      const Weight w = weight(type, 512, n_out, store);
      for (const int n : {1, 3, 8, 45}) {  // one tile, some, and rows enough to unpack once for all
        const auto x = random(n * 512);
        std::vector<float> got(n * n_out), want(n * n_out);
        ops().matmul(on(w), n, x.data(), got.data());
        ref_.matmul(w, n, taken(type, n, x).data(), want.data());
        // GPU kernels multiply many rows in half precision (tests/gpu/tiles_test.cc).
        const bool halves = n > 16 && type != DType::kF32 && !is_cpu(GetParam());
        expect_close(got, want, halves ? 1e-3 : 5e-6);
      }
    }
  }
}

// So many outputs that single simds take rows, of which the last ones are part of a band; inputs of
// several rows come in two pieces. Rows come again: making that many takes long.
TEST_P(OpsAgree, MatmulOfVeryManyOutputs) {
  constexpr int kMade = 419, kOutputs = 65536 + 27;
  struct Case {
    DType type;
    int width, n;
  };
  std::list<std::vector<std::byte>> stores;  // a weight is known by where it lies
  for (const Case& c : {Case{DType::kQ2_K, 1024, 1}, Case{DType::kQ2_K, 1024, 5},
                        Case{DType::kIQ2_XXS, 1024, 1}, Case{DType::kIQ2_XXS, 3072, 2}}) {
    std::vector<std::byte>& store = stores.emplace_back();
    weight(c.type, c.width, kMade, store);
    const size_t made_bytes = store.size();
    store.resize(row_bytes(c.type, c.width) * kOutputs);
    for (size_t i = made_bytes; i < store.size(); i++) store[i] = store[i - made_bytes];
    const Weight w{store.data(), c.type, c.width, kOutputs, 1};
    const auto x = random(c.n * c.width);
    std::vector<float> got(c.n * kOutputs), rows(c.n * kMade), want;
    ops().matmul(on(w), c.n, x.data(), got.data());
    ref_.matmul({store.data(), c.type, c.width, kMade, 1}, c.n, taken(c.type, c.n, x).data(),
                rows.data());
    for (int r = 0; r < c.n; r++)
      for (int o = 0; o < kOutputs; o++) want.push_back(rows[r * kMade + o % kMade]);
    expect_close(got, want, 5e-6);
  }
}

TEST_P(OpsAgree, MatmulOfOddWidths) {
  for (const int n_in : {1, 3, 15, 17, 100}) {
    std::vector<std::byte> store;
    const Weight w = weight(DType::kF32, n_in, 9, store);
    const auto x = random(2 * n_in);
    std::vector<float> got(18), want(18);
    ops().matmul(on(w), 2, x.data(), got.data());
    ref_.matmul(w, 2, x.data(), want.data());
    expect_close(got, want);
  }
}

TEST_P(OpsAgree, GroupedMatmul) {
  for (const int width : {96, 128}) {
    std::vector<std::byte> store;
    const Weight w = weight(DType::kQ8_0, width, 4 * 11, store);
    const auto x = random(kRows * 4 * width);
    // GPU kernels take integers in rows of a multiple of 64 columns.
    const bool floats = !is_cpu(GetParam()) && width % 64 != 0;
    const auto seen = floats ? x : taken(w.type, kRows, x);
    std::vector<float> got(kRows * 44), want(kRows * 44);
    ops().grouped_matmul(on(w), 4, kRows, x.data(), got.data());
    ref_.grouped_matmul(w, 4, kRows, seen.data(), want.data());
    expect_close(got, want);

    std::vector<float> one(4 * width, 0.0f);  // only group 2 sees anything
    std::copy_n(x.begin() + 2 * width, width, one.begin() + 2 * width);
    got.assign(44, NAN);
    ops().grouped_matmul(on(w), 4, 1, one.data(), got.data());
    for (int o = 0; o < 44; o++) EXPECT_EQ(got[o] != 0, o / 11 == 2) << o;
  }
}

TEST_P(OpsAgree, Norms) {
  const auto x = random(kRows * 130), w = random(130);
  std::vector<float> got(x.size()), want(x.size());
  ops().rms_norm(kRows, 130, x.data(), w.data(), 1e-6f, got.data());
  ref_.rms_norm(kRows, 130, x.data(), w.data(), 1e-6f, want.data());
  expect_close(got, want);
  got = want = x;
  ops().head_norm(kRows, 2, 65, 1e-6f, got.data());
  ref_.head_norm(kRows, 2, 65, 1e-6f, want.data());
  expect_close(got, want);
}

TEST_P(OpsAgree, HyperConnections) {
  constexpr int H = 4, d = 48;
  std::vector<std::byte> store, head_store;
  HcParams p;
  const Weight fn = weight(DType::kF32, H * d, H * (2 + H), store);
  p.n_hc = H;
  p.d = d;
  p.sinkhorn_iterations = 20;
  p.hc_eps = p.rms_eps = 1e-6f;
  const auto base = random(p.n_mixes(), 0.5f), scale = random(3), norm = random(d),
             X = random(kRows * H * d);
  p.base = base.data();
  p.scale = scale.data();
  std::vector<float> gates(kRows * p.n_mixes()), want_gates = gates, x(kRows * d), want_x = x;
  p.fn = on(fn);
  ops().hc_pre(p, norm.data(), kRows, X.data(), gates.data(), x.data());
  p.fn = fn;
  ref_.hc_pre(p, norm.data(), kRows, X.data(), want_gates.data(), want_x.data());
  expect_close(gates, want_gates, 5e-6);
  expect_close(x, want_x, 5e-6);

  auto next = X, want_next = X;
  ops().hc_post(p, kRows, want_x.data(), want_gates.data(), next.data());
  ref_.hc_post(p, kRows, want_x.data(), want_gates.data(), want_next.data());
  expect_close(next, want_next);

  const Weight head_fn = weight(DType::kF16, H * d, H, head_store);
  p.fn = on(head_fn);
  ops().hc_head(p, norm.data(), kRows, X.data(), gates.data(), x.data());
  p.fn = head_fn;
  ref_.hc_head(p, norm.data(), kRows, X.data(), want_gates.data(), want_x.data());
  expect_close(x, want_x, 5e-6);
}

TEST_P(OpsAgree, RowsInAndOut) {
  for (const RowFormat& f : {RowFormat{RowFormat::Kind::kAttention, 192, 128},
                             {RowFormat::Kind::kIndex, 128, 0},
                             {RowFormat::Kind::kF32, 40, 0}}) {
    const auto x = random(kRows * f.dim);
    std::vector<std::byte> got(kRows * f.bytes()), want(kRows * f.bytes());
    ops().encode_rows(f, kRows, x.data(), got.data());
    ref_.encode_rows(f, kRows, x.data(), want.data());
    EXPECT_EQ(got, want);
    auto q = x, want_q = x;
    ops().index_query(f, kRows, 1, q.data());
    ref_.index_query(f, kRows, 1, want_q.data());
    EXPECT_EQ(q, want_q);
  }
}

TEST_P(OpsAgree, MakeKvRows) {
  for (const RowFormat& f :
       {RowFormat{RowFormat::Kind::kAttention, 192, 128}, {RowFormat::Kind::kF32, 40, 0}}) {
    const auto x = random(kRows * f.dim), norm = random(f.dim), table = random(kRows * 6);
    std::vector<std::byte> got(kRows * f.bytes()), want(kRows * f.bytes());
    auto kv = x, want_kv = x;
    ops().make_kv_rows(f, kRows, 6, norm.data(), 1e-6f, table.data(), kv.data(), got.data());
    ref_.make_kv_rows(f, kRows, 6, norm.data(), 1e-6f, table.data(), want_kv.data(), want.data());
    expect_close(kv, want_kv);
    if (f.kind == RowFormat::Kind::kF32) continue;
    int different = 0;  // a last bit may cross the border between two codes
    for (size_t i = 0; i < want.size(); i++) different += got[i] != want[i];
    EXPECT_LE(different, 3);
  }
}

// Pages in shuffled order, three sequences.
struct Pages {
  static constexpr int kPages = 9, kRowsPerPage = 24;
  std::vector<std::byte> bytes;
  std::vector<int32_t> table{4, 0, 7, 2, 8, 1, 6, 3, 5};
  PagedRows rows;

  explicit Pages(const RowFormat& format) : bytes(kPages * (kRowsPerPage * format.bytes() + 16)) {
    rows = {bytes.data(), kRowsPerPage * format.bytes() + 16, 16, table.data(), 3, kRowsPerPage,
            format};
  }
  void fill(RefOps& ref, std::vector<float> values) {  // [kPages * kRowsPerPage][dim]
    const int dim = rows.format.dim;
    for (int slot = 0; slot < 3; slot++)
      for (int c = 0; c < 3 * kRowsPerPage; c++)
        ref.encode_rows(rows.format, 1, &values[(slot * 3 * kRowsPerPage + c) * dim],
                        rows.at(slot, c));
  }
};

TEST_P(OpsAgree, Compress) {
  const RowFormat attention{RowFormat::Kind::kF32, 96, 0};
  for (const bool overlap : {true, false}) {
    Pages got(attention), want(attention);
    const int width = overlap ? 192 : 96, capacity = overlap ? 24 : 144;
    auto ring_k = random(3 * capacity * width), ring_s = random(3 * capacity * width);
    const auto k = random(kRows * width), s = random(kRows * width), norm = random(96);
    const std::vector<float> freq = {1, 0.1f, 0.01f};
    CompressorParams p{overlap ? 4 : 128, overlap, norm.data(), 1e-6f, freq.data(), 6, {}, {}, {}};
    p.k_ring = {reinterpret_cast<std::byte*>(ring_k.data()), capacity * width * 4, 0, capacity,
                width * 4};
    p.s_ring = {reinterpret_cast<std::byte*>(ring_s.data()), capacity * width * 4, 0, capacity,
                width * 4};
    const Batch b;
    p.out = got.rows;
    ops().compress(b.rows, p, k.data(), s.data());
    p.out = want.rows;
    ref_.compress(b.rows, p, k.data(), s.data());
    const auto floats = [](const Pages& pages) {
      std::vector<float> v(pages.bytes.size() / 4);
      std::memcpy(v.data(), pages.bytes.data(), pages.bytes.size());
      return v;
    };
    EXPECT_NE(want.bytes, std::vector<std::byte>(want.bytes.size()));
    expect_close(floats(got), floats(want), 5e-6);
  }
}

TEST_P(OpsAgree, AddApeAndRings) {
  std::vector<std::byte> store;
  const Weight ape = weight(DType::kF16, 64, 4, store);
  const Batch b;
  auto got = random(kRows * 64), want = got;
  ops().add_ape(b.rows, on(ape), 4, got.data());
  ref_.add_ape(b.rows, ape, 4, want.data());
  EXPECT_EQ(got, want);

  for (const int capacity : {2, 5}) {  // 2: a sequence brings more rows than the ring holds
    std::vector<float> a(3 * capacity * 64, -1.0f), c = a;
    ops().ring_store(b.rows,
                     {reinterpret_cast<std::byte*>(a.data()), capacity * 256, 0, capacity, 256},
                     reinterpret_cast<std::byte*>(got.data()));
    ref_.ring_store(b.rows,
                    {reinterpret_cast<std::byte*>(c.data()), capacity * 256, 0, capacity, 256},
                    reinterpret_cast<std::byte*>(got.data()));
    EXPECT_EQ(a, c);
  }
}

TEST_P(OpsAgree, IndexSelection) {
  for (const RowFormat& f :
       {RowFormat{RowFormat::Kind::kIndex, 64, 0}, {RowFormat::Kind::kF32, 64, 0}}) {
    Pages pages(f);
    pages.fill(ref_, random(Pages::kPages * Pages::kRowsPerPage * 64));
    const auto q = random(kRows * 5 * 64), w = random(kRows * 5);
    for (const int score_rows : {3, 16}) {
      const IndexParams p{5, 20, 60, score_rows, pages.rows};
      const Batch b;
      std::vector<float> scores(16 * 60);
      std::vector<int32_t> got(kRows * 20, -1), want = got, n_got(kRows), n_want(kRows);
      ops().index_select(b.rows, p, q.data(), w.data(), scores.data(), got.data(), n_got.data());
      ref_.index_select(b.rows, p, q.data(), w.data(), scores.data(), want.data(), n_want.data());
      EXPECT_EQ(n_got, n_want);
      EXPECT_EQ(n_got, (std::vector<int32_t>{20, 20, 20, 1, 20, 20, 20}));
      EXPECT_EQ(got, want);
    }
  }
}

// Rows of one group and of slices, with ties, infinities and NaN.
TEST_P(OpsAgree, BestLogits) {
  enum class Kind { kNormal, kTies, kFlat, kInfinite, kNoNumbers, kCrowded };
  for (const int n_vocab : {1, 31, 511, 512, 513, 4096, 4097, 4160, 9001, 50001}) {
    const std::vector<Kind> kinds = {Kind::kNormal,   Kind::kTies,      Kind::kFlat,
                                     Kind::kInfinite, Kind::kNoNumbers, Kind::kCrowded};
    const int n = static_cast<int>(kinds.size());
    std::vector<float> logits = random(int64_t{n} * n_vocab, 3);
    for (int r = 0; r < n; r++) {
      for (int i = 0; i < n_vocab; i++) {
        float& x = logits[int64_t{r} * n_vocab + i];
        if (kinds[r] == Kind::kTies) x = std::nearbyint(x);
        if (kinds[r] == Kind::kFlat) x = i % 2 == 0 ? 0.0f : -0.0f;
        if (kinds[r] == Kind::kInfinite) x = i % 3 == 0 ? x : i % 7 == 1 ? INFINITY : -INFINITY;
        if (kinds[r] == Kind::kNoNumbers && i % 5 == 3) x = i % 2 ? NAN : -NAN;
        // All of the best in one slice.
        if (kinds[r] == Kind::kCrowded && i / 32 % 64 == 5) x += 100;
      }
    }
    std::vector<Candidates> got(n), want(n);
    ops().best_logits(n, n_vocab, logits.data(), got.data());
    ops().sync();
    ref_.best_logits(n, n_vocab, logits.data(), want.data());
    for (int r = 0; r < n; r++) {
      const std::string what = std::to_string(n_vocab) + " logits, row " + std::to_string(r);
      ASSERT_EQ(got[r].n, want[r].n) << what;
      ASSERT_EQ(got[r].first_nan, want[r].first_nan) << what;
      for (int i = 0; i < Candidates::kMost; i++) {
        ASSERT_EQ(got[r].ids[i], want[r].ids[i]) << what << ", place " << i;
        ASSERT_EQ(got[r].logits[i], want[r].logits[i]) << what << ", place " << i;
      }
    }
  }
}

// More rows than a device looks at together.
TEST_P(OpsAgree, BestLogitsOfManyRows) {
  const int n = 20, n_vocab = 5000;
  const std::vector<float> logits = random(int64_t{n} * n_vocab);
  std::vector<Candidates> got(n), want(n);
  ops().best_logits(n, n_vocab, logits.data(), got.data());
  ops().sync();
  ref_.best_logits(n, n_vocab, logits.data(), want.data());
  for (int r = 0; r < n; r++)
    for (int i = 0; i < Candidates::kMost; i++) ASSERT_EQ(got[r].ids[i], want[r].ids[i]) << r;
}

TEST_P(OpsAgree, Attention) {
  const RowFormat f{RowFormat::Kind::kAttention, 96, 64};
  Pages pages(f);
  pages.fill(ref_, random(Pages::kPages * Pages::kRowsPerPage * 96));
  std::vector<std::byte> ring(3 * 60 * f.bytes()), batch(kRows * f.bytes());
  const auto ring_values = random(3 * 60 * 96), batch_values = random(kRows * 96),
             q = random(kRows * 19 * 96);
  ref_.encode_rows(f, 3 * 60, ring_values.data(), ring.data());
  ref_.encode_rows(f, kRows, batch_values.data(), batch.data());
  const auto sinks = random(19);
  std::vector<int32_t> selected(kRows * 9, 0), n_selected{9, 9, 3, 1, 0, 9, 9};
  for (int r = 0; r < kRows; r++)
    for (int i = 0; i < n_selected[r]; i++) selected[r * 9 + i] = 3 * i;
  for (const int mode : {0, 4, 128}) {
    AttentionParams p{19,
                      96,
                      50,
                      f,
                      batch.data(),
                      {ring.data(), 60 * f.bytes(), 0, 60, f.bytes()},
                      mode,
                      pages.rows,
                      nullptr,
                      nullptr,
                      9,
                      sinks.data()};
    if (mode == 4) p.selected = selected.data(), p.n_selected = n_selected.data();
    const Batch b;
    std::vector<float> got(q.size()), want(q.size());
    ops().attention(b.rows, p, q.data(), got.data());
    ref_.attention(b.rows, p, q.data(), want.data());
    expect_close(got, want, 5e-6);
  }
}

TEST_P(OpsAgree, Experts) {
  constexpr int d = 64, inner = 96, n_experts = 11, k = 3;
  std::vector<std::byte> s1, s2, s3, s4, s5, s6;
  const ExpertParams p{weight(DType::kQ8_0, d, inner, s1, n_experts),
                       weight(DType::kQ8_0, d, inner, s2, n_experts),
                       weight(DType::kF16, inner, d, s3, n_experts), 0.8f};
  const auto x = random(kRows * d, 3), weights = random(kRows * k);
  // One expert for every row, one never used, one row twice on the same expert.
  const std::vector<int32_t> ids = {0, 4, 5, 1, 4, 10, 4, 6, 7, 2, 4, 9, 4, 4, 8, 3, 4, 5, 0, 1, 4};
  std::vector<float> hidden(kRows * k * inner), want_hidden = hidden, got(kRows * d), want = got;
  ops().routed_experts(on(p), kRows, k, x.data(), ids.data(), weights.data(), hidden.data(),
                       got.data());
  ref_.routed_experts(p, kRows, k, x.data(), ids.data(), weights.data(), want_hidden.data(),
                      want.data());
  const double tolerance = 2e-4;  // 16-bit activations
  expect_close(hidden, want_hidden, tolerance);
  expect_close(got, want, tolerance);

  const ExpertParams shared{weight(DType::kQ8_0, d, inner, s4), weight(DType::kQ8_0, d, inner, s5),
                            weight(DType::kQ8_0, inner, d, s6), 0.8f};
  std::vector<float> gate(kRows * inner), up = gate, down(kRows * d);
  ops().shared_expert(on(shared), kRows, x.data(), gate.data(), up.data(), down.data(), got.data());
  ref_.shared_expert(shared, kRows, x.data(), gate.data(), up.data(), down.data(), want.data());
  expect_close(got, want, tolerance);
}

// A fused op gives, on its own backend, the bits of the steps that define it (ops/compose.cc).

TEST_P(OpsAgree, FusedProducts) {
  const DType types[] = {DType::kQ8_0, DType::kF16, DType::kQ8_0, DType::kF16, DType::kF32};
  std::vector<std::byte> stores[5];
  std::vector<Weight> weights;
  for (int i = 0; i < 5; i++) weights.push_back(on(weight(types[i], 128, 3 + 7 * i, stores[i])));
  for (const int n : {1, 2, kRows, 20}) {
    const auto x = random(n * 128);
    std::vector<std::vector<float>> got, want;
    std::vector<Product> products;
    for (const Weight& w : weights) got.emplace_back(n * w.n_out), want.emplace_back(n * w.n_out);
    for (int i = 0; i < 5; i++) products.push_back({&weights[i], got[i].data()});
    ops().matmuls(products, n, x.data());
    for (int i = 0; i < 5; i++) products[i].y = want[i].data();
    ops().Ops::matmuls(products, n, x.data());
    EXPECT_EQ(got, want) << n << " rows";
  }
}

TEST_P(OpsAgree, FusedExperts) {
  constexpr int d = 256, inner = 256, n_experts = 5, k = 2;
  const std::pair<DType, int> all_shared[] = {
      {DType::kQ8_0, 224}, {DType::kQ8_0, 2112}, {DType::kF16, 224}};
  for (const DType type : {DType::kQ8_0, DType::kIQ2_XXS, DType::kQ2_K, DType::kF16})
    for (const auto& [of_shared, wide] : all_shared) {
      std::vector<std::byte> s[6];
      const ExpertParams routed =
          on({weight(type, d, inner, s[0], n_experts), weight(type, d, inner, s[1], n_experts),
              weight(type, inner, d, s[2], n_experts), 0.8f});
      const ExpertParams shared =
          on({weight(of_shared, d, wide, s[3]), weight(of_shared, d, wide, s[4]),
              weight(of_shared, wide, d, s[5]), 0.8f});
      for (const int n : {1, 3, 20}) {
        const auto x = random(n * d), weights = random(n * k);
        std::vector<int32_t> ids;
        for (int r = 0; r < n; r++) ids.insert(ids.end(), {r % 4, 4});
        std::vector<float> hidden(n * k * inner), gate(n * wide), up = gate, down(n * d),
                                                                  got = down;
        std::vector<float> want = down;
        const Ops::ExpertScratch scratch{hidden.data(), gate.data(), up.data(), down.data()};
        ops().experts(routed, shared, n, k, x.data(), ids.data(), weights.data(), scratch,
                      got.data());
        ops().Ops::experts(routed, shared, n, k, x.data(), ids.data(), weights.data(), scratch,
                           want.data());
        if (wide % 64 == 0)  // one launch for both adds up in another order
          expect_close(got, want);
        else
          EXPECT_EQ(got, want) << n << " rows";
      }
    }
}

TEST_P(OpsAgree, FusedHyperConnections) {
  constexpr int H = 4, d = 200;  // no multiple of a slice
  std::vector<std::byte> store;
  HcParams p;
  p.fn = on(weight(DType::kF16, H * d, H * (2 + H), store));
  p.n_hc = H;
  p.d = d;
  p.sinkhorn_iterations = 20;
  p.hc_eps = p.rms_eps = 1e-6f;
  const auto base = random(p.n_mixes(), 0.5f), scale = random(3), norm = random(d),
             out = random(kRows * d);
  p.base = base.data();
  p.scale = scale.data();
  auto X = random(kRows * H * d), gates = random(kRows * p.n_mixes()), want_X = X,
       want_gates = gates;
  std::vector<float> x(kRows * d), want_x = x;
  ops().hc_next(p, p, norm.data(), kRows, out.data(), gates.data(), X.data(), x.data());
  ops().Ops::hc_next(p, p, norm.data(), kRows, out.data(), want_gates.data(), want_X.data(),
                     want_x.data());
  EXPECT_EQ(X, want_X);
  EXPECT_EQ(gates, want_gates);
  EXPECT_EQ(x, want_x);
}

TEST_P(OpsAgree, FusedCompressor) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
    for (const bool overlap : {true, false}) {
      Pages got({RowFormat::Kind::kF32, 96, 0}), want = got;
      want.rows.pages = want.bytes.data();
      want.rows.table = want.table.data();
      const int width = overlap ? 192 : 96, capacity = overlap ? 24 : 144;
      std::vector<std::byte> store;
      const Weight ape = on(weight(type, width, overlap ? 4 : 128, store));
      auto ring_k = random(3 * capacity * width), ring_s = random(3 * capacity * width),
           want_ring_k = ring_k, want_ring_s = ring_s;
      const auto k = random(kRows * width), norm = random(96);
      auto s = random(kRows * width), want_s = s;
      const std::vector<float> freq = {1, 0.1f, 0.01f};
      const auto ring = [&](std::vector<float>& v) {
        return Ring{reinterpret_cast<std::byte*>(v.data()), capacity * width * 4, 0, capacity,
                    width * 4};
      };
      CompressorParams p{overlap ? 4 : 128, overlap,      norm.data(), 1e-6f, freq.data(), 6,
                         ring(ring_k),      ring(ring_s), got.rows};
      const Batch b;
      ops().compressor_step(b.rows, p, ape, k.data(), s.data());
      p.k_ring = ring(want_ring_k);
      p.s_ring = ring(want_ring_s);
      p.out = want.rows;
      ops().Ops::compressor_step(b.rows, p, ape, k.data(), want_s.data());
      EXPECT_EQ(got.bytes, want.bytes) << dtype_name(type);
      EXPECT_EQ(ring_k, want_ring_k) << dtype_name(type);
      EXPECT_EQ(ring_s, want_ring_s) << dtype_name(type);
    }
  }
}

// Rows longer than what kernels hold of their inputs at a time.
TEST_P(OpsAgree, MatmulOfLongRows) {
  constexpr int kIn = 8192 + 256, kOut = 3;
  for (const DType type :
       {DType::kF16, DType::kQ8_0, DType::kQ4_K, DType::kQ2_K, DType::kIQ2_XXS, DType::kMXFP4}) {
    std::vector<std::byte> store;
    const Weight w = weight(type, kIn, kOut, store);
    for (const int n : {1, 3}) {
      const auto x = random(n * kIn);
      std::vector<float> got(n * kOut), want(n * kOut);
      ops().matmul(on(w), n, x.data(), got.data());
      ops().sync();
      ref_.matmul(w, n, taken(type, n, x).data(), want.data());
      SCOPED_TRACE(std::string(dtype_name(type)) + ", rows: " + std::to_string(n));
      expect_close(got, want, 1e-5);
      for (int row = 0; n > 1 && row < n; row++) {  // a row alone: the same bits
        std::vector<float> alone(kOut);
        ops().matmul(on(w), 1, &x[row * kIn], alone.data());
        ops().sync();
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), &got[row * kOut])) << row;
      }
    }
  }
}

// Side by side or in order: the same bits. Two compressors, as a CSA layer has them.
TEST_P(OpsAgree, IndependentOps) {
  struct Buffers {
    std::vector<float> q, index_q, kv, s, rings;
    std::vector<std::byte> rows;
    Pages pages, index_pages;
  };
  const RowFormat format{RowFormat::Kind::kAttention, 128, 64},
      index_format{RowFormat::Kind::kIndex, 128, 0};
  constexpr int kCapacity = 24;
  Buffers a{random(kRows * 3 * 128),
            random(kRows * 2 * 128),
            random(kRows * 128),
            random(2 * kRows * 256),
            random(4 * 3 * kCapacity * 256),
            std::vector<std::byte>(kRows * format.bytes()),
            Pages(format),
            Pages(index_format)};
  Buffers b = a;
  for (Buffers* x : {&a, &b})
    for (Pages* pages : {&x->pages, &x->index_pages}) {
      pages->rows.pages = pages->bytes.data();
      pages->rows.table = pages->table.data();
    }
  const auto k = random(2 * kRows * 256), norm = random(128), table = random(kRows * 64),
             freq = random(32);
  std::vector<std::byte> store;
  const Weight ape = on(weight(DType::kF16, 256, 4, store));
  const Batch batch;
  const auto run = [&](Buffers& x) {
    const auto ring = [&](int i) {
      return Ring{reinterpret_cast<std::byte*>(x.rings.data() + i * 3 * kCapacity * 256),
                  kCapacity * 256 * 4, 0, kCapacity, 256 * 4};
    };
    for (int i = 0; i < 2; i++) {
      const CompressorParams p{4,
                               true,
                               norm.data(),
                               1e-6f,
                               freq.data(),
                               64,
                               ring(2 * i),
                               ring(2 * i + 1),
                               i == 0 ? x.pages.rows : x.index_pages.rows};
      ops().compressor_step(batch.rows, p, ape, k.data() + i * kRows * 256,
                            x.s.data() + i * kRows * 256);
    }
    ops().head_norm_rope(kRows, 3, 128, 64, 1e-6f, table.data(), x.q.data());
    ops().make_kv_rows(format, kRows, 64, norm.data(), 1e-6f, table.data(), x.kv.data(),
                       x.rows.data());
    ops().index_heads(index_format, kRows, 2, 64, table.data(), x.index_q.data());
  };
  {
    const Independent ops_here(ops());
    run(a);
  }
  ops().sync();
  run(b);
  ops().sync();
  EXPECT_EQ(a.q, b.q);
  EXPECT_EQ(a.index_q, b.index_q);
  EXPECT_EQ(a.kv, b.kv);
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.rings, b.rings);
  EXPECT_EQ(a.pages.bytes, b.pages.bytes);
  EXPECT_EQ(a.index_pages.bytes, b.index_pages.bytes);
}

TEST_P(OpsAgree, FusedRotations) {
  for (const RowFormat& f :
       {RowFormat{RowFormat::Kind::kIndex, 64, 0}, {RowFormat::Kind::kF32, 64, 0}}) {
    const auto table = random(kRows * 6);
    auto q = random(kRows * 3 * 64), want_q = q;
    ops().index_heads(f, kRows, 3, 6, table.data(), q.data());
    ops().Ops::index_heads(f, kRows, 3, 6, table.data(), want_q.data());
    EXPECT_EQ(q, want_q);
  }
  const RowFormat f{RowFormat::Kind::kF32, 96, 0};
  std::vector<std::byte> ring(3 * 60 * f.bytes()), batch(kRows * f.bytes());
  const auto values = random(3 * 60 * 96), own = random(kRows * 96);
  ref_.encode_rows(f, 180, values.data(), ring.data());
  ref_.encode_rows(f, kRows, own.data(), batch.data());
  const auto sinks = random(19), q = random(kRows * 19 * 96), table = random(kRows * 8);
  AttentionParams p;
  p.n_heads = 19;
  p.head_dim = 96;
  p.window = 50;
  p.row = f;
  p.batch_rows = batch.data();
  p.ring = {ring.data(), 60 * f.bytes(), 0, 60, f.bytes()};
  p.sinks = sinks.data();
  const Batch b;
  std::vector<float> got(q.size()), want(q.size());
  auto want_ring = ring;
  ops().attention_step(b.rows, p, 8, table.data(), q.data(), got.data());
  p.ring.base = want_ring.data();
  ops().Ops::attention_step(b.rows, p, 8, table.data(), q.data(), want.data());
  ops().sync();
  EXPECT_EQ(got, want);
  EXPECT_EQ(ring, want_ring);
}

TEST_P(OpsAgree, EmbedAndGather) {
  std::vector<std::byte> store;
  const Weight table = weight(DType::kQ8_0, 32, 5, store);
  const Batch b;
  std::vector<float> got(kRows * 3 * 32), want = got;
  ops().embed(b.rows, on(table), 3, got.data());
  ref_.embed(b.rows, table, 3, want.data());
  EXPECT_EQ(got, want);
  const std::vector<int32_t> index = {6, 0, 3};
  std::vector<float> rows(3 * 96), want_rows(3 * 96);
  ops().gather_rows(3, index.data(), 96, got.data(), rows.data());
  ref_.gather_rows(3, index.data(), 96, got.data(), want_rows.data());
  EXPECT_EQ(rows, want_rows);
}

INSTANTIATE_TEST_SUITE_P(Backends, OpsAgree, testing::ValuesIn(device_names()),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace narwhal
