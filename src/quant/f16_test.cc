#include "quant/f16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace narwhal::quant {
namespace {

// The value of a finite half, from its definition.
double f16_value(int code) {
  const int exponent = code >> 10 & 31, mantissa = code & 1023;
  const double v =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return code & 0x8000 ? -v : v;
}

double bf16_value(int code) {
  const int exponent = code >> 7 & 255, mantissa = code & 127;
  const double v =
      exponent == 0 ? std::ldexp(mantissa, -133) : std::ldexp(128 + mantissa, exponent - 134);
  return code & 0x8000 ? -v : v;
}

// Nearest code by bisection over the non-negative codes; `infinity` takes part with the value that
// the format would reach next. Ties go to the even code.
template <class Value>
int nearest(double magnitude, int infinity, Value value) {
  int low = 0, high = infinity;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (value(middle) <= magnitude ? low : high) = middle;
  }
  const double down = magnitude - value(low), up = value(high) - magnitude;
  if (down != up) return down < up ? low : high;
  return low % 2 == 0 ? low : high;
}

template <class Value>
int slow_encode(float v, int infinity, Value value) {
  const int sign = std::signbit(v) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(v));
  const auto extended = [&](int code) {
    return code < infinity ? value(code) : 2 * value(infinity - 1) - value(infinity - 2);
  };
  if (magnitude >= extended(infinity)) return sign | infinity;
  return sign | nearest(magnitude, infinity, extended);
}

std::vector<float> probes() {
  std::vector<float> v = {0.0f,
                          65504.0f,
                          65519.9f,
                          65520.0f,
                          65536.0f,
                          1e30f,
                          0x1p-14f,
                          0x1p-24f,
                          0x1p-25f,
                          0x1.000002p-25f,
                          0x1p-26f,
                          0x1p-126f,
                          0x1p-149f,
                          std::numeric_limits<float>::max(),
                          std::numeric_limits<float>::infinity()};
  for (int code = 0; code < 0x7c00; ++code) {  // every half, every midpoint and their neighbours
    const auto a = static_cast<float>(f16_value(code));
    const float middle = static_cast<float>((f16_value(code) + f16_value(code + 1)) / 2);
    for (float x : {a, middle}) {
      v.push_back(x);
      v.push_back(std::nextafterf(x, 0));
      v.push_back(std::nextafterf(x, INFINITY));
    }
  }
  std::mt19937 random(7);
  for (int i = 0; i < 200000; ++i) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (!std::isnan(x)) v.push_back(x);
  }
  const size_t n = v.size();
  for (size_t i = 0; i < n; ++i) v.push_back(-v[i]);
  return v;
}

TEST(F16, EveryCodeDecodesToItsValueAndComesBack) {
  for (int code = 0; code < 65536; ++code) {
    const float v = f16_to_f32(static_cast<uint16_t>(code));
    if ((code & 0x7c00) != 0x7c00) {
      ASSERT_EQ(v, f16_value(code)) << code;
    } else {
      ASSERT_EQ(std::isinf(v), (code & 0x3ff) == 0) << code;
      ASSERT_EQ(std::isnan(v), (code & 0x3ff) != 0) << code;
    }
    ASSERT_EQ(std::signbit(v), (code & 0x8000) != 0) << code;
    ASSERT_EQ(f32_to_f16(v), code);
  }
}

TEST(F16, EncodesToTheNearestEven) {
  for (float v : probes()) ASSERT_EQ(f32_to_f16(v), slow_encode(v, 0x7c00, f16_value)) << v;
}

TEST(F16, NanStaysNan) {
  for (uint32_t bits : {0x7f800001u, 0x7fc00000u, 0xff801fffu, 0xffffffffu})
    EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(std::bit_cast<float>(bits))))) << bits;
}

TEST(BF16, EveryCodeDecodesToItsValueAndComesBack) {
  for (int code = 0; code < 65536; ++code) {
    const float v = bf16_to_f32(static_cast<uint16_t>(code));
    if ((code & 0x7f80) != 0x7f80) {
      ASSERT_EQ(v, bf16_value(code)) << code;
    }
    ASSERT_EQ(std::isnan(v), (code & 0x7fff) > 0x7f80) << code;
    ASSERT_EQ(f32_to_bf16(v), code);
  }
}

TEST(BF16, EncodesToTheNearestEven) {
  std::vector<float> v = probes();
  for (int code = 0; code < 0x7f80; ++code)
    for (uint32_t low : {0x7fffu, 0x8000u, 0x8001u})
      v.push_back(std::bit_cast<float>(static_cast<uint32_t>(code) << 16 | low));
  for (float x : v) ASSERT_EQ(f32_to_bf16(x), slow_encode(x, 0x7f80, bf16_value)) << x;
}

TEST(BF16, NanStaysNan) {
  for (uint32_t bits : {0x7f800001u, 0x7fc00000u, 0xff80ffffu, 0xffffffffu})
    EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(bits))))) << bits;
}

}  // namespace
}  // namespace narwhal::quant
