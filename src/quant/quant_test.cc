#include "quant/quant.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "quant/f16.h"
#include "quant/iq2_xxs.h"
#include "quant/q2_k.h"
#include "quant/q4_k.h"
#include "quant/q8_0.h"

namespace narwhal::quant {
namespace {

constexpr DType kBlockTypes[] = {DType::kQ8_0, DType::kQ4_K, DType::kQ2_K, DType::kIQ2_XXS,
                                 DType::kMXFP4};
constexpr DType kDotTypes[] = {DType::kQ4_K, DType::kQ2_K, DType::kIQ2_XXS};

class Lcg {
 public:
  explicit Lcg(uint32_t seed) : state_(seed) {}
  double u24() {
    state_ = state_ * 1664525u + 1013904223u;
    return state_ >> 8;
  }
  float product() {
    const double a = u24() / 0x1p23 - 1;
    const double b = u24() / 0x1p23 - 1;
    return static_cast<float>(a * b);
  }

 private:
  uint32_t state_;
};

// The inputs that quant_vectors.json names.
std::vector<float> named_input(const std::string& name) {
  std::vector<float> x(256);
  const auto lcg = [&](uint32_t seed) {
    Lcg g(seed);
    for (float& v : x) v = g.product();
  };
  if (name.starts_with("lcg")) lcg(static_cast<uint32_t>(std::stoul(name.substr(3))));
  if (name == "ramp")
    for (int i = 0; i < 256; ++i) x[i] = static_cast<float>(i - 128) / 64;
  if (name == "const") x.assign(256, 0.125f);
  if (name == "constneg") x.assign(256, -0.125f);
  if (name == "outlier") {
    lcg(99);
    for (float& v : x) v *= 0x1p-4f;
    x[37] = 8;
    x[200] = -5.5f;
  }
  if (name == "halfzero") {
    lcg(5);
    std::fill(x.begin() + 128, x.end(), 0.0f);
  }
  return x;
}

std::vector<float> named_weights(const std::string& name) {
  std::vector<float> w(256, 1.0f);
  Lcg g(7);
  if (name == "lcgw7")
    for (float& v : w) v = static_cast<float>(g.u24() / 0x1p24 + 0x1p-10);
  return w;
}

std::vector<uint8_t> from_hex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

std::string crc32_hex(const std::vector<float>& values) {
  uint32_t crc = 0xffffffffu;
  for (float v : values) {
    const uint32_t bits = std::bit_cast<uint32_t>(v);
    for (int i = 0; i < 32; i += 8) {
      crc ^= bits >> i & 255;
      for (int k = 0; k < 8; ++k) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0u);
    }
  }
  return fmt::format("{:08x}", ~crc);
}

std::vector<uint8_t> encode(DType t, const std::vector<float>& x, const float* importance) {
  std::vector<uint8_t> row(row_bytes(t, static_cast<int64_t>(x.size())));
  encode_row(t, x.data(), static_cast<int64_t>(x.size()), importance, row.data());
  return row;
}

std::vector<float> decode(DType t, const std::vector<uint8_t>& row, int64_t n) {
  std::vector<float> x(n);
  decode_row(t, row.data(), n, x.data());
  return x;
}

std::vector<uint8_t> random_row(DType t, int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> row(row_bytes(t, n));
  for (uint8_t& b : row) b = static_cast<uint8_t>(random());
  // Any bytes are a valid block; only the halves are kept small and finite.
  const auto set_half = [&](size_t at) {
    const uint16_t h = f32_to_f16(static_cast<float>(random() % 2000) * 1e-4f - 0.1f);
    std::memcpy(row.data() + at, &h, 2);
  };
  const size_t stride = static_cast<size_t>(dtype_info(t).block_bytes);
  for (size_t at = 0; at < row.size(); at += stride) {
    if (t == DType::kQ4_K) set_half(at), set_half(at + 2);
    if (t == DType::kQ2_K) set_half(at + 80), set_half(at + 82);
    if (t == DType::kIQ2_XXS || t == DType::kQ8_0) set_half(at);
  }
  return row;
}

TEST(Vectors, EncodeByteExactAndDecodeBitExact) {
  auto text = read_file(NARWHAL_TEST_DATA "/quant/quant_vectors.json");
  ASSERT_TRUE(text.ok()) << text.status().message();
  auto json = Json::parse(*text);
  ASSERT_TRUE(json.ok()) << json.status().message();
  int n_cases = 0;
  for (const Json& c : (*json)["cases"].items) {
    std::string type = c["type"].text;
    for (char& ch : type) ch = static_cast<char>(std::tolower(ch));
    const std::string where = type + " " + c["input"].text + " " + c["weights"].text;
    const auto t = dtype_by_name(type);
    ASSERT_TRUE(t) << type;
    const std::vector<float> w = named_weights(c["weights"].text);
    const std::vector<uint8_t> expected = from_hex(c["bytes_hex"].text);
    const auto got =
        encode(*t, named_input(c["input"].text), c["weights"].is_null() ? nullptr : w.data());
    EXPECT_EQ(got, expected) << where;
    const std::vector<float> x = decode(*t, expected, 256);
    EXPECT_EQ(crc32_hex(x), c["dequant_crc32"].text) << where;
    for (int i = 0; i < 8; ++i)
      EXPECT_EQ(x[i], c["dequant_first8"].items[i].as_double()) << where << " " << i;
    ++n_cases;
  }
  EXPECT_EQ(n_cases, 81);
}

TEST(Rows, PlainTypes) {
  const std::vector<float> x = named_input("lcg1");
  EXPECT_EQ(decode(DType::kF32, encode(DType::kF32, x, nullptr), 256), x);
  const auto h = decode(DType::kF16, encode(DType::kF16, x, nullptr), 256);
  const auto b = decode(DType::kBF16, encode(DType::kBF16, x, nullptr), 256);
  for (int i = 0; i < 256; ++i) {
    EXPECT_EQ(h[i], f16_to_f32(f32_to_f16(x[i])));
    EXPECT_EQ(b[i], bf16_to_f32(f32_to_bf16(x[i])));
  }
}

// Blocks of a row are independent: a long row is its 256-value pieces, with importance by column.
TEST(Rows, LongRowsAreTheirBlocks) {
  std::vector<float> x, w;
  for (const char* name : {"lcg1", "outlier", "halfzero", "zero", "ramp"}) {
    const auto piece = named_input(name);
    x.insert(x.end(), piece.begin(), piece.end());
  }
  Lcg g(21);
  for (size_t i = 0; i < x.size(); ++i) w.push_back(static_cast<float>(g.u24() / 0x1p24 + 0.01));
  for (DType t : kBlockTypes) {
    const auto whole = encode(t, x, w.data());
    std::vector<uint8_t> pieces;
    for (size_t i = 0; i < x.size(); i += 256) {
      const auto p = encode(t, std::vector<float>(x.begin() + i, x.begin() + i + 256), &w[i]);
      pieces.insert(pieces.end(), p.begin(), p.end());
    }
    EXPECT_EQ(whole, pieces) << dtype_name(t);
  }
}

TEST(Rows, ErrorsAreOfTheExpectedSize) {
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  std::vector<float> x(256 * 16), w(x.size(), 1.0f);
  for (float& v : x) v = normal(random);
  const std::pair<DType, double> bounds[] = {{DType::kQ8_0, 0.007},
                                             {DType::kQ4_K, 0.08},
                                             {DType::kMXFP4, 0.13},
                                             {DType::kQ2_K, 0.33},
                                             {DType::kIQ2_XXS, 0.45}};
  for (const auto& [t, bound] : bounds) {
    const auto y = decode(t, encode(t, x, w.data()), static_cast<int64_t>(x.size()));
    double error = 0, energy = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      error += std::pow(x[i] - y[i], 2);
      energy += std::pow(x[i], 2);
    }
    EXPECT_LT(std::sqrt(error / energy), bound) << dtype_name(t);
    EXPECT_GT(std::sqrt(error / energy), bound / 4) << dtype_name(t);
  }
}

TEST(Rows, NonFiniteAndExtremeValuesDoNotCrash) {
  const float top = std::numeric_limits<float>::max();
  const std::vector<float> w(256, 1.0f);
  for (float bad : {std::nanf(""), INFINITY, -INFINITY, top, -top, 0x1p-149f, 1e-42f}) {
    std::vector<float> one = named_input("lcg2"), all(256, bad);
    one[100] = bad;
    for (DType t : kBlockTypes)
      for (const auto& x : {one, all})
        for (const float* importance : {static_cast<const float*>(nullptr), w.data()})
          if (importance || !needs_importance(t)) {
            const auto row = encode(t, x, importance);
            EXPECT_EQ(decode(t, row, 256).size(), 256u);
          }
    Q8K q;
    encode_q8_k(one.data(), 1, &q);
    encode_q8_k(all.data(), 1, &q);
  }
}

TEST(Rows, FirstEncodingMayHappenOnManyThreads) {
  const auto x = named_input("lcg1");
  const std::vector<float> w(256, 1.0f);
  std::vector<std::vector<uint8_t>> rows(4);
  std::vector<std::thread> threads;
  for (auto& row : rows) threads.emplace_back([&] { row = encode(DType::kIQ2_XXS, x, w.data()); });
  for (auto& t : threads) t.join();
  for (const auto& row : rows) EXPECT_EQ(row, rows[0]);
}

TEST(Rows, Capabilities) {
  EXPECT_TRUE(can_encode(DType::kMXFP4) && can_encode(DType::kF32));
  EXPECT_FALSE(can_encode(DType::kI32) || can_decode(DType::kI64) || can_decode(DType::kF64));
  for (DType t : kBlockTypes) EXPECT_EQ(needs_importance(t), t == DType::kIQ2_XXS);
}

TEST(RowsDeathTest, MisuseAborts) {
  float x[256] = {};
  alignas(4) uint8_t row[400] = {};
  EXPECT_DEATH(encode_row(DType::kIQ2_XXS, x, 256, nullptr, row), "without importance");
  EXPECT_DEATH(encode_row(DType::kI32, x, 1, nullptr, row), "holds no weights");
  EXPECT_DEATH(decode_row(DType::kQ4_K, row, 128, x), "128 values");
  EXPECT_DEATH(decode_row(DType::kQ8_0, row + 1, 32, x), "row at");
}

// Blocks made by hand so that every field differs from its neighbours.
TEST(Q4K, SplitScalesAndNibbleOrder) {
  BlockQ4K b = {};
  b.d = f32_to_f16(1.0f);
  b.dmin = f32_to_f16(0.5f);
  // scales 1..4 | 17, 34, 51, 63; minima 5..8 | 60, 45, 30, 16
  const int scale[8] = {1, 2, 3, 4, 17, 34, 51, 63}, min[8] = {5, 6, 7, 8, 60, 45, 30, 16};
  for (int j = 0; j < 4; ++j) {
    b.s[j] = static_cast<uint8_t>(scale[j] + 64 * (scale[j + 4] / 16));
    b.s[j + 4] = static_cast<uint8_t>(min[j] + 64 * (min[j + 4] / 16));
    b.s[j + 8] = static_cast<uint8_t>(scale[j + 4] % 16 + 16 * (min[j + 4] % 16));
  }
  for (int i = 0; i < 128; ++i)
    b.qs[i] = static_cast<uint8_t>(i % 16 + 16 * ((i * 5 + i / 32) % 16));
  float x[256];
  decode_q4_k(&b, 1, x);
  for (int e = 0; e < 256; ++e) {
    const int p = e / 64, l = e % 32, high = e % 64 / 32, i = 32 * p + l, j = e / 32;
    const int q = high ? (i * 5 + i / 32) % 16 : i % 16;
    EXPECT_EQ(x[e], static_cast<float>(scale[j] * q) - 0.5f * static_cast<float>(min[j])) << e;
  }
}

TEST(Q2K, ScaleIndexAndBitOrder) {
  BlockQ2K b = {};
  b.d = f32_to_f16(2.0f);
  b.dmin = f32_to_f16(0.25f);
  for (int t = 0; t < 16; ++t) b.s[t] = static_cast<uint8_t>(t + 16 * (15 - t));
  for (int i = 0; i < 64; ++i) b.qs[i] = static_cast<uint8_t>(i * 37 + 11);
  float x[256];
  decode_q2_k(&b, 1, x);
  for (int e = 0; e < 256; ++e) {
    const int a = e / 128, k = e % 128 / 32, l = e % 32, t = e / 16;
    const int q = (b.qs[32 * a + l] >> 2 * k) % 4;
    EXPECT_EQ(x[e], static_cast<float>(2 * t * q) - 0.25f * static_cast<float>(15 - t)) << e;
  }
}

TEST(IQ2XXS, GridIsSortedAndSignsAreEven) {
  int previous = -1;
  for (uint64_t entry : kIq2XxsGrid) {
    int code = 0;
    for (int i = 7; i >= 0; --i) {
      const int byte = static_cast<int>(entry >> 8 * i & 255);
      ASSERT_TRUE(byte == 8 || byte == 25 || byte == 43) << byte;
      code = code << 2 | (byte == 8 ? 0 : byte == 25 ? 1 : 2);
    }
    EXPECT_GT(code, previous);
    previous = code;
  }
  EXPECT_EQ(previous, 43268);
  for (uint32_t i = 0; i < 128; ++i) {
    EXPECT_EQ(iq2_xxs_signs(i) & 127, static_cast<int>(i));
    EXPECT_EQ(std::popcount(iq2_xxs_signs(i)) % 2, 0);
  }
}

// All grid indices, sign indices and group scales, with a half so large that nothing hides.
TEST(IQ2XXS, EveryFieldDecodes) {
  for (int round = 0; round < 16; ++round) {
    BlockIQ2XXS b = {};
    b.d = f32_to_f16(round == 15 ? 65504.0f : 1.0f);
    int index[32], sign[32], ls[8];
    for (int g = 0; g < 8; ++g) {
      uint32_t tail = 0;
      ls[g] = (round + g) % 16;
      for (int t = 0; t < 4; ++t) {
        const int k = 4 * g + t;
        index[k] = (round * 32 + k) % 256;
        sign[k] = (round * 8 + k * 5) % 128;
        tail |= static_cast<uint32_t>(sign[k]) << 7 * t;
      }
      tail |= static_cast<uint32_t>(ls[g]) << 28;
      b.qs[4 * g] = static_cast<uint16_t>(index[4 * g] + 256 * index[4 * g + 1]);
      b.qs[4 * g + 1] = static_cast<uint16_t>(index[4 * g + 2] + 256 * index[4 * g + 3]);
      b.qs[4 * g + 2] = static_cast<uint16_t>(tail);
      b.qs[4 * g + 3] = static_cast<uint16_t>(tail >> 16);
    }
    float x[256];
    decode_iq2_xxs(&b, 1, x);
    for (int e = 0; e < 256; ++e) {
      const int byte = static_cast<int>(kIq2XxsGrid[index[e / 8]] >> 8 * (e % 8) & 255);
      const int minus = e % 8 < 7 ? sign[e / 8] >> e % 8 & 1
                                  : std::popcount(static_cast<unsigned>(sign[e / 8])) & 1;
      const int group = e / 32;
      const float scale = f16_to_f32(b.d) * (0.5f + static_cast<float>(ls[group])) * 0.25f;
      ASSERT_EQ(x[e], (minus ? -scale : scale) * static_cast<float>(byte)) << round << " " << e;
    }
  }
}

TEST(Q8K, ExtremeElementBecomesMinus127) {
  std::vector<float> x = named_input("lcg1");
  for (float extreme : {3.0f, -3.0f}) {
    x[77] = extreme;
    x[78] = -extreme;  // as large, but later: the far end, clamped to +127
    Q8K q;
    encode_q8_k(x.data(), 1, &q);
    EXPECT_EQ(q.q[77], -127);
    EXPECT_EQ(q.q[78], 127);
    EXPECT_EQ(std::signbit(q.d), extreme > 0);
    std::vector<float> y(256);
    decode_q8_k(&q, 1, y.data());
    for (int i = 0; i < 256; ++i) EXPECT_NEAR(y[i], x[i], 3.0f / 127 * 0.5001f);
    for (int j = 0; j < 16; ++j) {
      int sum = 0;
      for (int i = 0; i < 16; ++i) sum += q.q[16 * j + i];
      EXPECT_EQ(q.bsum[j], sum);
    }
  }
}

TEST(Q8K, ZeroBlock) {
  const std::vector<float> x(256);
  Q8K q;
  std::memset(&q, 0xff, sizeof q);
  encode_q8_k(x.data(), 1, &q);
  const Q8K zero = {};
  EXPECT_EQ(std::memcmp(&q, &zero, sizeof q), 0);
}

// The integer path equals the product of decoded values but for F32 rounding of a few terms.
TEST(Dot, MatchesDecodedValues) {
  constexpr int64_t kN = 256 * 5;
  for (DType t : kDotTypes)
    for (uint32_t seed = 0; seed < 50; ++seed) {
      const auto row = random_row(t, kN, seed);
      const auto w = decode(t, row, kN);
      Lcg g(seed + 100);
      std::vector<float> x(kN), xq(kN);
      for (float& v : x) v = g.product();
      if (seed % 10 == 0) std::fill(x.begin() + 256, x.begin() + 512, 0.0f);
      std::vector<Q8K> q(kN / 256);
      encode_q8_k(x.data(), kN / 256, q.data());
      decode_q8_k(q.data(), kN / 256, xq.data());
      double sum = 0, size = 0;
      for (int64_t i = 0; i < kN; ++i) {
        sum += static_cast<double>(w[i]) * xq[i];
        size += std::fabs(static_cast<double>(w[i]) * xq[i]);
      }
      EXPECT_NEAR(dot_q8k(t, row.data(), q.data(), kN), sum, 1e-6 * size) << dtype_name(t);
      ASSERT_GT(size, 0);
    }
}

}  // namespace
}  // namespace narwhal::quant
