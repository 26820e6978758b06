#include "quant/kv_codes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "quant/fp4.h"
#include "quant/fp8.h"

namespace narwhal::quant {
namespace {

using Fp8Block = std::array<float, kFp8Block>;
using Fp4Block = std::array<float, kFp4Block>;

float round_e4m3(float v) { return e4m3_to_f32(f32_to_e4m3(v)); }
float round_e2m1(float v) { return e2m1_to_f32(f32_to_e2m1(v)); }

Fp8Block simulate(const Fp8Block& x, uint8_t* exponent = nullptr) {
  uint8_t codes[kFp8Block];
  const uint8_t e = fp8_block_encode(x.data(), codes);
  if (exponent) *exponent = e;
  Fp8Block y;
  fp8_block_decode(codes, e, y.data());
  return y;
}

Fp4Block simulate(const Fp4Block& x, uint8_t* exponent = nullptr) {
  uint8_t nibbles[kFp4Block / 2];
  const uint8_t e = fp4_block_encode(x.data(), nibbles);
  if (exponent) *exponent = e;
  Fp4Block y;
  fp4_block_decode(nibbles, e, y.data());
  return y;
}

template <class Block>
float scale_of(float amax) {
  Block x = {};
  x[17] = -amax;
  uint8_t e;
  simulate(x, &e);
  return e8m0_to_f32(e);
}

TEST(E4M3, EveryCodeComesBackAndValuesAscend) {
  for (int code = 0; code < 127; ++code) {
    const float v = e4m3_to_f32(static_cast<uint8_t>(code));
    EXPECT_EQ(f32_to_e4m3(v), code);
    EXPECT_EQ(f32_to_e4m3(-v), code | 0x80);
    EXPECT_EQ(e4m3_to_f32(static_cast<uint8_t>(code | 0x80)), -v);
    if (code > 0) {
      EXPECT_LT(e4m3_to_f32(static_cast<uint8_t>(code - 1)), v);
    }
  }
  EXPECT_EQ(e4m3_to_f32(0x7e), 448.0f);
  EXPECT_EQ(e4m3_to_f32(0x01), 0x1p-9f);
  EXPECT_EQ(e4m3_to_f32(0x38), 1.0f);
  EXPECT_TRUE(std::isnan(e4m3_to_f32(0x7f)) && std::isnan(e4m3_to_f32(0xff)));
  EXPECT_EQ(f32_to_e4m3(std::nanf("")), 0x7f);
}

TEST(E4M3, RoundsHalfToEvenAndClamps) {
  const std::pair<float, float> cases[] = {
      {0x1p-10f, 0.0f}, {0x1.8p-9f, 0x1p-8f}, {0.3f, 0.3125f},     {1.0625f, 1.0f},
      {1.1875f, 1.25f}, {17.0f, 16.0f},       {19.0f, 20.0f},      {432.0f, 448.0f},
      {447.0f, 448.0f}, {464.0f, 448.0f},     {1e30f, 448.0f},     {INFINITY, 448.0f},
      {0.0f, 0.0f},     {0x1p-149f, 0.0f},    {0x1.fp-7f, 0x1p-6f}};
  for (const auto& [in, out] : cases) {
    EXPECT_EQ(round_e4m3(in), out) << in;
    EXPECT_EQ(round_e4m3(-in), -out) << in;
  }
}

TEST(E4M3, MidpointsGoToTheEvenCode) {
  for (int code = 0; code < 126; ++code) {
    const float low = e4m3_to_f32(static_cast<uint8_t>(code));
    const float high = e4m3_to_f32(static_cast<uint8_t>(code + 1));
    const float middle = (low + high) / 2;
    EXPECT_EQ(f32_to_e4m3(middle), code + code % 2);
    EXPECT_EQ(f32_to_e4m3(std::nextafterf(middle, 0)), code);
    EXPECT_EQ(f32_to_e4m3(std::nextafterf(middle, INFINITY)), code + 1);
  }
}

TEST(E8M0, EveryCode) {
  for (int e = 0; e < 255; ++e)
    EXPECT_EQ(e8m0_to_f32(static_cast<uint8_t>(e)), std::ldexp(1.0, e - 127));
  EXPECT_EQ(std::bit_cast<uint32_t>(e8m0_to_f32(0)), 0x00400000u);
  EXPECT_TRUE(std::isnan(e8m0_to_f32(255)));
}

TEST(E2M1, EveryCodeTiesAndClamp) {
  const float values[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  for (int code = 0; code < 16; ++code) {
    const float v = e2m1_to_f32(static_cast<uint32_t>(code));
    EXPECT_EQ(v, code < 8 ? values[code] : -values[code - 8]);
    EXPECT_EQ(std::signbit(v), code >= 8);
    EXPECT_EQ(f32_to_e2m1(v), code);
  }
  const std::pair<float, float> ties[] = {{0.25f, 0.0f}, {0.75f, 1.0f}, {1.25f, 1.0f},
                                          {1.75f, 2.0f}, {2.5f, 2.0f},  {3.5f, 4.0f},
                                          {5.0f, 4.0f}};
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(round_e2m1(ties[i].first), ties[i].second);
    EXPECT_EQ(round_e2m1(-ties[i].first), -ties[i].second);
    EXPECT_EQ(round_e2m1(std::nextafterf(ties[i].first, 0)), values[i]);
    EXPECT_EQ(round_e2m1(std::nextafterf(ties[i].first, 9)), values[i + 1]);
  }
  EXPECT_EQ(round_e2m1(INFINITY), 6.0f);
  EXPECT_EQ(round_e2m1(std::nanf("")), 0.0f);
}

TEST(Fp8Block, ScaleIsThePowerOfTwoAboveAmax) {
  const std::pair<float, float> cases[] = {{0.0f, 0x1p-22f}, {1.0f, 0x1p-8f}, {3.5f, 0x1p-7f},
                                           {3.51f, 0x1p-6f}, {448.0f, 1.0f},  {449.0f, 2.0f}};
  for (const auto& [amax, scale] : cases) EXPECT_EQ(scale_of<Fp8Block>(amax), scale) << amax;
}

TEST(Fp8Block, KnownBlock) {
  Fp8Block x;
  for (int i = 0; i < kFp8Block; ++i) x[i] = static_cast<float>((i - 31.5) * 0.037);
  uint8_t e;
  const Fp8Block y = simulate(x, &e);
  EXPECT_EQ(e8m0_to_f32(e), 0x1p-8f);
  const float head[] = {-1.125f, -1.125f, -1.125f, -1.0f, -1.0f, -1.0f};
  const float middle[] = {-0.0546875f, -0.017578125f, 0.017578125f, 0.0546875f};
  EXPECT_TRUE(std::equal(head, head + 6, y.begin()));
  EXPECT_TRUE(std::equal(middle, middle + 4, y.begin() + 30));
}

TEST(Fp4Block, ScaleAndZeroBlock) {
  EXPECT_EQ(scale_of<Fp4Block>(6.0f), 1.0f);
  EXPECT_EQ(scale_of<Fp4Block>(6.1f), 2.0f);
  EXPECT_EQ(scale_of<Fp4Block>(3.0f), 0.5f);
  EXPECT_EQ(scale_of<Fp4Block>(0.0f), 0x1p-126f);
  for (float v : simulate(Fp4Block{})) EXPECT_EQ(v, 0.0f);
}

TEST(Fp4Block, KnownBlockAndNibbleOrder) {
  Fp4Block x;
  for (int i = 0; i < kFp4Block; ++i) x[i] = static_cast<float>((5 * i % 32 - 15.5) * 0.3);
  uint8_t nibbles[kFp4Block / 2];
  const uint8_t e = fp4_block_encode(x.data(), nibbles);
  EXPECT_EQ(e, 127);
  EXPECT_EQ(nibbles[0], 0xd << 4 | 0xe);  // -4 low, -3 high
  EXPECT_EQ(nibbles[1], 0x8 << 4 | 0xb);  // -1.5, -0
  const Fp4Block y = simulate(x);
  const float head[] = {-4, -3, -1.5f, -0.0f, 1.5f, 3, 4, -4, -2, -1, 1, 2};
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(y[i], head[i]) << i;
    EXPECT_EQ(std::signbit(y[i]), std::signbit(head[i])) << i;
  }
}

// Random blocks over the whole range of exponents: nothing clips, the error is within half a step
// of the coarsest code, and a second pass changes nothing.
template <class Block>
void check_random_blocks(float max_code, float half_step, float floor) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (int trial = 0; trial < 4000; ++trial) {
    Block x;
    const int exponent = static_cast<int>(random() % 240) - 120;
    for (float& v : x) v = std::ldexp(normal(random), exponent);
    float amax = floor;
    for (float v : x) amax = std::max(amax, std::fabs(v));
    uint8_t e;
    const Block y = simulate(x, &e);
    const double scale = std::ldexp(1.0, e - 127);
    ASSERT_LE(amax / scale, max_code * (1 + 1e-6));
    ASSERT_GT(amax / scale, max_code / 2 * (1 - 1e-6));
    for (size_t i = 0; i < x.size(); ++i)
      ASSERT_LE(std::fabs(static_cast<double>(x[i]) - y[i]), half_step * scale) << x[i];
    ASSERT_EQ(simulate(y), y);
  }
}

TEST(Fp8Block, ErrorBoundAndIdempotence) { check_random_blocks<Fp8Block>(448, 16, 1e-4f); }
TEST(Fp4Block, ErrorBoundAndIdempotence) { check_random_blocks<Fp4Block>(6, 1, 6 * 0x1p-126f); }

TEST(Blocks, LargestFloatSurvives) {
  const float top = std::numeric_limits<float>::max();
  Fp8Block x8 = {};
  x8[5] = -top;
  EXPECT_TRUE(std::isfinite(simulate(x8)[0]));
  Fp4Block x4 = {};
  x4[5] = -top;
  EXPECT_TRUE(std::isfinite(simulate(x4)[0]));
}

TEST(Blocks, NonFiniteInputBecomesNan) {
  for (float bad : {std::nanf(""), -std::nanf(""), INFINITY, -INFINITY}) {
    Fp8Block x8 = {1.0f, 2.0f};
    x8[63] = bad;
    for (float v : simulate(x8)) EXPECT_TRUE(std::isnan(v));
    Fp4Block x4 = {1.0f, 2.0f};
    x4[31] = bad;
    for (float v : simulate(x4)) EXPECT_TRUE(std::isnan(v));
  }
}

TEST(Hadamard, UnitVectorInverseAndDotProduct) {
  std::vector<float> x(128);
  x[0] = 1;
  hadamard(x.data(), 128);
  for (float v : x) EXPECT_EQ(v, 0.08838834764831845f);

  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (int d : {1, 2, 16, 64, 128, 512}) {
    std::vector<float> a(d), b(d);
    for (float& v : a) v = normal(random);
    for (float& v : b) v = normal(random);
    double before = 0, after = 0;
    for (int i = 0; i < d; ++i) before += static_cast<double>(a[i]) * b[i];
    std::vector<float> ha = a, hb = b;
    hadamard(ha.data(), d);
    hadamard(hb.data(), d);
    for (int i = 0; i < d; ++i) after += static_cast<double>(ha[i]) * hb[i];
    EXPECT_NEAR(before, after, 1e-4) << d;
    hadamard(ha.data(), d);
    for (int i = 0; i < d; ++i) EXPECT_NEAR(ha[i], a[i], 1e-5) << d;
  }
}

// Natural order: H[i][j] = (-1)^popcount(i & j).
TEST(Hadamard, NaturalOrder) {
  for (int j = 0; j < 16; ++j) {
    float x[16] = {};
    x[j] = 4;
    hadamard(x, 16);
    for (unsigned i = 0; i < 16; ++i)
      EXPECT_EQ(x[i], std::popcount(i & static_cast<unsigned>(j)) % 2 ? -1.0f : 1.0f);
  }
}

}  // namespace
}  // namespace narwhal::quant
