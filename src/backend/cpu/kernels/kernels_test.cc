// Every level of this machine against quant::dot_q8k and the portable level, bit by bit.
#include "backend/cpu/kernels/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "ops/row_codec.h"
#include "quant/quant.h"

namespace narwhal::cpu {
namespace {

class Levels : public testing::TestWithParam<Level> {
 protected:
  const Kernels& k_ = kernels(GetParam());
  std::mt19937 rng_{7};

  std::vector<float> random(int64_t n, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> v(n);
    for (float& x : v) x = normal(rng_);
    return v;
  }
};

// Memory aligned to a cache line.
struct Aligned {
  explicit Aligned(int64_t n) : bytes(n + 64) {
    void* p = bytes.data();
    size_t space = bytes.size();
    data = static_cast<std::byte*>(std::align(64, n, p, space));
  }
  std::vector<std::byte> bytes;
  std::byte* data;
};

struct Stored {
  std::vector<std::byte> bytes;
  Weight w;

  // One byte in front of the rows, so that nothing is aligned.
  Stored(DType type, int64_t n_in, int64_t n_out, const std::vector<float>& values)
      : bytes(row_bytes(type, n_in) * n_out + 2) {
    const std::vector<float> importance(n_in, 1.0f);
    std::vector<std::byte> row(row_bytes(type, n_in));
    w = {bytes.data() + 2, type, n_in, n_out};
    for (int64_t r = 0; r < n_out; r++) {
      quant::encode_row(type, &values[r * n_in], n_in, importance.data(), row.data());
      std::memcpy(bytes.data() + 2 + r * row.size(), row.data(), row.size());
    }
  }
};

std::vector<float> product(const Kernels& k, const Weight& w, int n, const std::vector<float>& x,
                           bool exact = false) {
  const ActKind kind = exact ? ActKind::kF32 : act_kind(w.type);
  const ActLayout layout(kind, w.n_in, k.planes);
  Aligned acts(layout.stride * n), memory(k.scratch_bytes(w.n_in));
  for (int r = 0; r < n; r++) {
    std::byte* row = acts.data + r * layout.stride;
    if (kind == ActKind::kInt8)
      k.quantise8(&x[r * w.n_in], w.n_in, layout, row);
    else if (kind == ActKind::kInt16)
      k.quantise16(&x[r * w.n_in], w.n_in, layout, row);
    else
      std::memcpy(row, &x[r * w.n_in], w.n_in * 4);
  }
  std::vector<float> y(n * w.n_out, NAN);
  MatmulJob job;
  job.w = w;
  job.kind = kind;
  job.acts = acts.data;
  job.act_stride = layout.stride;
  job.n = n;
  job.y = y.data();
  job.y_stride = w.n_out;
  k.matmul(job, 0, w.n_out, memory.data);
  return y;
}

constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,    DType::kQ8_0,
                            DType::kQ4_K, DType::kQ2_K, DType::kIQ2_XXS, DType::kMXFP4};

// Blocks of 32 and of 256 in numbers that the kernels cut differently: 16 divides them, they divide
// 16, or neither.
constexpr int kInputs[] = {768, 1024, 2048, 4096};

TEST_P(Levels, ManyRowsAreOneRowManyTimes) {
  for (const DType type : kTypes)
    for (const auto& [n_in, n_out] : {std::pair{768, 3}, {768, 50}, {768, 150}, {1024, 50}}) {
      const Stored s(type, n_in, n_out, random(n_in * n_out));
      const auto x = random(131 * n_in);
      for (const int n : {2, 3, 5, 8, 9, 17, 131}) {
        const auto all = product(k_, s.w, n, x);
        for (int r = 0; r<n; r += n> 20 ? 13 : 1) {
          const auto one = product(k_, s.w, 1, {x.begin() + r * n_in, x.begin() + (r + 1) * n_in});
          for (int o = 0; o < n_out; o++)
            ASSERT_EQ(one[o], all[r * n_out + o])
                << dtype_name(type) << " n " << n << " row " << r << " output " << o;
        }
      }
    }
}

TEST_P(Levels, QuantisedProductsAreTheSameBitsAtEveryLevel) {
  for (const DType type : kTypes)
    for (const int n_in : kInputs) {
      if (act_kind(type) == ActKind::kF32) continue;
      const Stored s(type, n_in, 37, random(n_in * 37));
      auto x = random(19 * n_in);
      for (int i = 0; i < 256; i++) x[i] = 0;              // an empty block
      for (int i = 0; i < 32; i++) x[n_in + i] *= 1e-42f;  // one too small for a scale
      x[2 * n_in + 40] = 1e6f;                             // one value far above the others
      for (const int n : {1, 4, 19})
        EXPECT_EQ(product(k_, s.w, n, x), product(kernels(Level::kPortable), s.w, n, x))
            << dtype_name(type) << " inputs " << n_in << " rows " << n;
    }
}

TEST_P(Levels, KFormatsGiveTheIntegerDotProduct) {
  for (const DType type : {DType::kQ4_K, DType::kQ2_K, DType::kIQ2_XXS}) {
    const Stored s(type, 1024, 21, random(1024 * 21));
    const auto x = random(1024, 5);
    std::vector<quant::Q8K> q(4);
    quant::encode_q8_k(x.data(), 4, q.data());
    const auto got = product(k_, s.w, 1, x);
    for (int o = 0; o < 21; o++)
      EXPECT_EQ(got[o], quant::dot_q8k(type, s.w.row(o), q.data(), 1024)) << dtype_name(type);
  }
}

TEST_P(Levels, ExactProductsDecodeTheWeights) {
  for (const DType type : kTypes) {
    const Stored s(type, 512, 19, random(512 * 19));
    const auto x = random(9 * 512);
    const auto y = product(k_, s.w, 9, x, true);
    std::vector<float> row(512);
    for (int o = 0; o < 19; o++) {
      quant::decode_row(type, s.w.row(o), 512, row.data());
      for (int r = 0; r < 9; r++)
        EXPECT_EQ(y[r * 19 + o], k_.dot(row.data(), &x[r * 512], 512)) << dtype_name(type);
    }
  }
}

TEST_P(Levels, ExtremeWeightsDoNotOverflow) {
  // All bits set: the largest codes and scales of every format, but halves kept finite.
  for (const DType type : {DType::kQ8_0, DType::kQ4_K, DType::kQ2_K, DType::kIQ2_XXS}) {
    Stored s(type, 512, 16, std::vector<float>(512 * 16, 1.0f));
    for (std::byte& b : s.bytes) b = std::byte{0xff};
    const int size = dtype_info(type).block_bytes;
    const int at = type == DType::kQ2_K ? 80 : 0;
    for (size_t b = 2; b + size <= s.bytes.size(); b += size)
      for (int i = 0; i < (type == DType::kQ2_K || type == DType::kQ4_K ? 4 : 2); i += 2) {
        s.bytes[b + at + i] = std::byte{0};
        s.bytes[b + at + i + 1] = std::byte{0x3c};  // 1
      }
    for (const float sign : {1.0f, -1.0f}) {
      const std::vector<float> x(512, sign);
      std::vector<float> row(512);
      quant::decode_row(type, s.w.row(0), 512, row.data());
      double want = 0;
      for (const float v : row) want += double(v) * sign;
      EXPECT_NEAR(product(k_, s.w, 1, x)[5], want, std::fabs(want) * 1e-5) << dtype_name(type);
    }
  }
}

TEST_P(Levels, NanAndInfinityShow) {
  for (const DType type : kTypes)
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      const Stored s(type, 512, 5, random(512 * 5));
      auto x = random(11 * 512);
      x[3 * 512 + 300] = bad;
      const auto y = product(k_, s.w, 11, x);
      for (int r = 0; r < 11; r++)
        for (int o = 0; o < 5; o++)
          EXPECT_EQ(std::isfinite(y[r * 5 + o]), r != 3) << dtype_name(type) << " row " << r;
    }
}

TEST_P(Levels, RowsDecodeAsTheCodecDoes) {
  for (const RowFormat& f : {RowFormat{RowFormat::Kind::kAttention, 200, 128},
                             {RowFormat::Kind::kIndex, 128, 0},
                             {RowFormat::Kind::kF32, 40, 0}}) {
    for (const float scale : {1e-30f, 1e-3f, 1.0f, 1e30f}) {
      auto x = random(f.dim, scale);
      x[5] *= 1e-3f;  // subnormal codes
      std::vector<std::byte> row(f.bytes() + 1);
      std::vector<float> scratch(f.dim), got(f.dim), want(f.dim);
      encode_kv_row(f, x.data(), row.data() + 1, scratch.data());
      decode_kv_row(f, row.data() + 1, want.data());
      k_.decode_kv_row(f, row.data() + 1, got.data());
      EXPECT_EQ(got, want);
    }
  }
}

TEST_P(Levels, SwigluIsAccurateAndClamps) {
  std::vector<float> g, u;
  for (int i = 0; i < 650; i++) {
    const float v = 0.37f * static_cast<float>(i) - 120;
    g.push_back(v);
    u.push_back(60 - v);
  }
  std::vector<float> out(g.size());
  k_.swiglu(g.data(), u.data(), static_cast<int64_t>(g.size()), 30.0f, 0.5f, out.data());
  for (size_t i = 0; i < g.size(); i++) {
    const double gate = std::min(30.0, double(g[i])), up = std::clamp(double(u[i]), -30.0, 30.0);
    const double want = gate / (1 + std::exp(-gate)) * up * 0.5;
    EXPECT_NEAR(out[i], want, std::fabs(want) * 5e-7 + 1e-30) << g[i];
  }
}

INSTANTIATE_TEST_SUITE_P(All, Levels, testing::ValuesIn(available_levels()),
                         [](const auto& i) { return std::string(level_name(i.param)); });

TEST(LevelNames, UnknownIsRefusedWithTheChoices) {
  const auto r = find_level("sse9");
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.status().message().find("portable"), std::string::npos);
  EXPECT_EQ(*find_level("auto"), available_levels().back());
}

}  // namespace
}  // namespace narwhal::cpu
