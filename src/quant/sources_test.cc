#include "quant/sources.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "quant/quant.h"

namespace narwhal::quant {
namespace {

TEST(Fp8Row, EveryCodeUnderItsTileScale) {
  std::vector<uint8_t> codes(256);
  for (int i = 0; i < 256; ++i) codes[i] = static_cast<uint8_t>((i & 0x7f) == 0x7f ? 0 : i);
  const uint8_t scales[2] = {0, 130};  // 2^-127 and 2^3
  std::vector<float> x(256);
  ASSERT_TRUE(decode_fp8_row(codes.data(), scales, 256, x.data()).ok());
  for (int i = 0; i < 256; ++i) {
    const int exponent = codes[i] >> 3 & 15, mantissa = codes[i] & 7;
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    const double scaled = std::ldexp(magnitude, i < 128 ? -127 : 3);
    EXPECT_EQ(x[i], codes[i] & 0x80 ? -scaled : scaled) << i;
  }
}

TEST(Fp8Row, LastTileMayBePartial) {
  const std::vector<uint8_t> codes(130, 0x38);  // 1.0
  const uint8_t scales[2] = {127, 128};
  std::vector<float> x(130);
  ASSERT_TRUE(decode_fp8_row(codes.data(), scales, 130, x.data()).ok());
  EXPECT_EQ(x[127], 1.0f);
  EXPECT_EQ(x[128], 2.0f);
  EXPECT_EQ(x[129], 2.0f);
}

TEST(Fp8Row, RefusesWhatIsNoNumber) {
  std::vector<float> x(256);
  const uint8_t fine[2] = {127, 127};
  for (uint8_t nan : {uint8_t{0x7f}, uint8_t{0xff}}) {
    std::vector<uint8_t> codes(256, 0x38);
    codes[201] = nan;
    const Status s = decode_fp8_row(codes.data(), fine, 256, x.data());
    EXPECT_EQ(s.code(), Code::kBadInput);
    EXPECT_NE(s.message().find("column 201"), std::string::npos) << s.message();
  }
  const std::vector<uint8_t> codes(256, 0x7e);
  for (uint8_t scale : {uint8_t{255}, uint8_t{254}}) {  // NaN; 448 * 2^127
    const uint8_t scales[2] = {127, scale};
    const Status s = decode_fp8_row(codes.data(), scales, 256, x.data());
    EXPECT_EQ(s.code(), Code::kBadInput);
    EXPECT_NE(s.message().find("column 128"), std::string::npos) << s.message();
  }
}

struct Fp4Row {
  std::vector<uint8_t> packed, scales;
  int64_t n() const { return static_cast<int64_t>(packed.size()) * 2; }
};

// One block per scale byte that a file may hold; block b counts through all codes.
Fp4Row every_scale() {
  Fp4Row row;
  std::mt19937 random(5);
  for (int e = 0; e <= 252; ++e) {
    row.scales.push_back(static_cast<uint8_t>(e));
    for (int b = 0; b < 16; ++b)
      row.packed.push_back(static_cast<uint8_t>(e % 2 == 0 ? b << 4 | (b * 7 + 3) % 16 : random()));
  }
  return row;
}

TEST(Fp4Row, EvenElementIsTheLowNibble) {
  const Fp4Row row = every_scale();
  std::vector<float> x(row.n());
  ASSERT_TRUE(decode_fp4_row(row.packed.data(), row.scales.data(), row.n(), x.data()).ok());
  const double values[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (int64_t i = 0; i < row.n(); ++i) {
    const int nibble = row.packed[i / 2] >> 4 * (i % 2) & 15;
    const double magnitude = std::ldexp(values[nibble & 7], row.scales[i / 32] - 127);
    ASSERT_EQ(x[i], nibble & 8 ? -magnitude : magnitude) << i;
    ASSERT_EQ(std::signbit(x[i]), (nibble & 8) != 0) << i;
  }
}

TEST(Fp4Row, RepackedToMxfp4DecodesEqual) {
  const Fp4Row row = every_scale();
  std::vector<float> x(row.n()), y(row.n());
  std::vector<uint8_t> mxfp4(row_bytes(DType::kMXFP4, row.n()));
  ASSERT_TRUE(decode_fp4_row(row.packed.data(), row.scales.data(), row.n(), x.data()).ok());
  ASSERT_TRUE(repack_fp4_row(row.packed.data(), row.scales.data(), row.n(), mxfp4.data()).ok());
  decode_row(DType::kMXFP4, mxfp4.data(), row.n(), y.data());
  for (int64_t i = 0; i < row.n(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(x[i]), std::bit_cast<uint32_t>(y[i])) << i;
  for (size_t b = 0; b < row.scales.size(); ++b) {
    ASSERT_EQ(mxfp4[17 * b], row.scales[b]);
    // Element 0 and 16 share the first byte.
    ASSERT_EQ(mxfp4[17 * b + 1], (row.packed[16 * b] & 15) | (row.packed[16 * b + 8] & 15) << 4);
  }
}

TEST(Fp4Row, RefusesScalesThatAreNoNumber) {
  Fp4Row row{std::vector<uint8_t>(32, 0x11), {127, 255}};
  std::vector<float> x(64);
  std::vector<uint8_t> mxfp4(34);
  for (uint8_t bad : {uint8_t{255}, uint8_t{254}, uint8_t{253}}) {
    row.scales[1] = bad;
    for (const Status& s :
         {decode_fp4_row(row.packed.data(), row.scales.data(), 64, x.data()),
          repack_fp4_row(row.packed.data(), row.scales.data(), 64, mxfp4.data())}) {
      EXPECT_EQ(s.code(), Code::kBadInput);
      EXPECT_NE(s.message().find("column 32"), std::string::npos) << s.message();
    }
  }
}

TEST(Mxfp4, EncodingADecodedRowKeepsItsValues) {
  Fp4Row row = every_scale();
  row.packed.erase(row.packed.begin(), row.packed.begin() + 16);  // 2^-127 is below the floor
  row.scales.erase(row.scales.begin());
  std::vector<uint8_t> a(row_bytes(DType::kMXFP4, row.n())), b(a.size());
  ASSERT_TRUE(repack_fp4_row(row.packed.data(), row.scales.data(), row.n(), a.data()).ok());
  std::vector<float> x(row.n()), y(row.n());
  decode_row(DType::kMXFP4, a.data(), row.n(), x.data());
  encode_row(DType::kMXFP4, x.data(), row.n(), nullptr, b.data());
  decode_row(DType::kMXFP4, b.data(), row.n(), y.data());
  EXPECT_EQ(x, y);
}

TEST(Mxfp4, NanScaleDecodesToNan) {
  std::vector<uint8_t> block(17, 0);
  block[0] = 255;
  float x[32];
  decode_row(DType::kMXFP4, block.data(), 32, x);
  for (float v : x) EXPECT_TRUE(std::isnan(v));
}

}  // namespace
}  // namespace narwhal::quant
