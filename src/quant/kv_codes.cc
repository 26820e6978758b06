#include "quant/kv_codes.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"
#include "quant/fp4.h"
#include "quant/fp8.h"

namespace narwhal::quant {
namespace {

// Largest magnitude of x[n], at least `floor`. Magnitudes are compared as integers: their order is
// the same and a NaN wins instead of vanishing.
float amax_at_least(float floor, const float* x, int n) {
  uint32_t top = std::bit_cast<uint32_t>(floor);
  for (int i = 0; i < n; ++i) top = std::max(top, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return std::bit_cast<float>(top);
}

// E8M0 code of 2^ceil(log2(v)) for a normal v > 0; 255 for infinity and NaN.
uint8_t ceil_exponent(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  return static_cast<uint8_t>(std::min(255u, (bits >> 23) + ((bits & 0x7fffffu) != 0)));
}

// 1 / 2^(e - 127), exact for e in 1..253: the exponents that blocks of finite values get.
float inverse_scale(uint8_t e) { return std::bit_cast<float>((254u - e) << 23); }

}  // namespace

uint8_t fp8_block_encode(const float* x, uint8_t* codes) {
  const uint8_t e = ceil_exponent(amax_at_least(1e-4f, x, kFp8Block) * (1.0f / 448.0f));
  if (e == 255) {
    std::fill_n(codes, kFp8Block, uint8_t{0});
    return e;
  }
  const float inverse = inverse_scale(e);
  for (int i = 0; i < kFp8Block; ++i) codes[i] = f32_to_e4m3(x[i] * inverse);
  return e;
}

void fp8_block_decode(const uint8_t* codes, uint8_t exponent, float* x) {
  const float scale = e8m0_to_f32(exponent);
  for (int i = 0; i < kFp8Block; ++i) x[i] = e4m3_to_f32(codes[i]) * scale;
}

uint8_t fp4_block_encode(const float* x, uint8_t* nibbles) {
  const uint8_t e = ceil_exponent(amax_at_least(6 * 0x1p-126f, x, kFp4Block) * (1.0f / 6.0f));
  if (e == 255) {
    std::fill_n(nibbles, kFp4Block / 2, uint8_t{0});
    return e;
  }
  const float inverse = inverse_scale(e);
  for (int i = 0; i < kFp4Block / 2; ++i) {
    const int low = f32_to_e2m1(x[2 * i] * inverse);
    const int high = f32_to_e2m1(x[2 * i + 1] * inverse);
    nibbles[i] = static_cast<uint8_t>(low | high << 4);
  }
  return e;
}

void fp4_block_decode(const uint8_t* nibbles, uint8_t exponent, float* x) {
  const float scale = e8m0_to_f32(exponent);
  for (int i = 0; i < kFp4Block / 2; ++i) {
    x[2 * i] = e2m1_to_f32(nibbles[i]) * scale;
    x[2 * i + 1] = e2m1_to_f32(nibbles[i] >> 4) * scale;
  }
}

void hadamard(float* x, int d) {
  NW_CHECK(d > 0 && std::has_single_bit(static_cast<unsigned>(d)), "d = {}", d);
  for (int stride = 1; stride < d; stride *= 2)
    for (int base = 0; base < d; base += 2 * stride)
      for (int i = base; i < base + stride; ++i) {
        const float a = x[i], b = x[i + stride];
        x[i] = a + b;
        x[i + stride] = a - b;
      }
  const float norm = static_cast<float>(1.0 / std::sqrt(static_cast<double>(d)));
  for (int i = 0; i < d; ++i) x[i] *= norm;
}

}  // namespace narwhal::quant
