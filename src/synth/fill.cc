#include "synth/fill.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "quant/f16.h"
#include "synth/random.h"

namespace narwhal::synth_detail {
namespace {

using quant::f32_to_f16;

// Standard deviation of a block of unit scale whose code bits are uniformly random.
// Q8_0: q uniform on -127..127, and 0 once more in place of -128.
const double kUnitQ8_0 = std::sqrt(127.0 * 128 * 255 / 3 / 256);
// Q2_K: d * s * q - dmin * m with s, m uniform on 0..15 (mean 7.5, mean square 77.5) and q on 0..3
// (1.5, 3.5). dmin = 1.5 d centres it: 77.5 * 3.5 + 2.25 * 77.5 - 2 * (1.5 * 7.5)^2.
const double kUnitQ2K = std::sqrt(192.5);
constexpr float kMinQ2K = 1.5f;
// Q4_K: the same with s, m on 0..63 (31.5, 1333.5) and q on 0..15 (7.5, 77.5), dmin = 7.5 d.
const double kUnitQ4K = std::sqrt(1333.5 * 77.5 + 56.25 * 1333.5 - 2 * 236.25 * 236.25);
constexpr float kMinQ4K = 7.5f;
// IQ2_XXS: d * (0.5 + s) * 0.25 * g with s on 0..15 (mean square of 0.5 + s: 85.25) and g an entry
// of the codebook (mean square 534.43 over its 256 words).
const double kUnitIQ2XXS = std::sqrt(85.25 * 0.0625 * 534.43017578125);
// MXFP4: mean square of 0, 0.5, 1, 1.5, 2, 3, 4, 6.
constexpr double kMeanSquareMXFP4 = 68.5 / 8;

double inverse_normal(double p) {
  if (p > 0.5) return -inverse_normal(1 - p);
  // A rational start (Abramowitz and Stegun 26.2.23), then Newton steps on erfc.
  const double t = std::sqrt(-2 * std::log(p));
  double x = -(t - (2.515517 + 0.802853 * t + 0.010328 * t * t) /
                       (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t));
  for (int i = 0; i < 3; i++) {
    const double error = 0.5 * std::erfc(-x / std::sqrt(2.0)) - p;
    x -= error * 2.5066282746310002 * std::exp(x * x / 2);
  }
  return x;
}

}  // namespace

NormalTable::NormalTable() {
  constexpr int n = 1 << kBits;
  double sum2 = 0;
  for (int i = 0; i < n; i++) {
    quantile_.push_back(inverse_normal((i + 0.5) / n));
    sum2 += quantile_[i] * quantile_[i];
  }
  for (double& q : quantile_) q /= std::sqrt(sum2 / n);
}

BlockFiller::BlockFiller(DType type, const Fill& fill, const NormalTable& table)
    : type_(type), fill_(fill) {
  switch (type) {
    case DType::kQ8_0:
      set_scales(fill.std / kUnitQ8_0);
      return;
    case DType::kQ2_K:
      set_scales(fill.std / kUnitQ2K, kMinQ2K);
      return;
    case DType::kQ4_K:
      set_scales(fill.std / kUnitQ4K, kMinQ4K);
      return;
    case DType::kIQ2_XXS:
      set_scales(fill.std / kUnitIQ2XXS);
      return;
    case DType::kMXFP4: {
      // Scales are powers of two: a mix of two neighbours meets the mean square.
      const double want = fill.std * fill.std / kMeanSquareMXFP4;
      const int low = static_cast<int>(std::floor(std::log2(want) / 2));
      NW_CHECK(low > -127 && low < 126, "standard deviation {} is out of range", fill.std);
      exponent_ = static_cast<uint8_t>(127 + low);
      n_upper_ = static_cast<int>(std::lround(256 * (want / std::exp2(2.0 * low) - 1) / 3));
      return;
    }
    case DType::kF16:
      if (fill.kind != Fill::Kind::kNormal) return;
      for (int i = 0; i < 1 << NormalTable::kBits; i++)
        half_.push_back(f32_to_f16(static_cast<float>(table[i] * fill.std)));
      return;
    case DType::kF32:
    case DType::kI32:
      return;
    default:
      NW_CHECK(false, "no filler for type {}", dtype_name(type));
  }
}

// Scales of different blocks vary by up to 25% around the wanted mean square.
void BlockFiller::set_scales(double d, float min_ratio) {
  std::array<double, 16> jitter;
  double sum2 = 0;
  for (int i = 0; i < 16; i++) {
    jitter[i] = 0.75 + i / 30.0;
    sum2 += jitter[i] * jitter[i];
  }
  for (int i = 0; i < 16; i++) {
    const auto scale = static_cast<float>(d * jitter[i] / std::sqrt(sum2 / 16));
    NW_CHECK(scale < 8000.0f && f32_to_f16(scale) != 0, "scale {} is no half", scale);
    scale_[i] = f32_to_f16(scale);
    min_[i] = f32_to_f16(scale * min_ratio);
  }
}

void BlockFiller::put_scale(uint8_t* at, uint8_t random) const {
  std::memcpy(at, &scale_[random & 15], 2);
}

void BlockFiller::put_scale_and_min(uint8_t* at, uint8_t random) const {
  std::memcpy(at, &scale_[random & 15], 2);
  std::memcpy(at + 2, &min_[random & 15], 2);
}

int64_t BlockFiller::blocks_in(int64_t n_bytes) const {
  const int64_t n = n_bytes / dtype_info(type_).block_bytes;
  return fill_.kind == Fill::Kind::kIds ? n - n % fill_.row : n;
}

void BlockFiller::write(int64_t first, int64_t count, uint8_t* destination) const {
  Rng rng(mix64(fill_.seed ^ mix64(static_cast<uint64_t>(first) + 1)));
  const int64_t block = dtype_info(type_).block_bytes;
  uint8_t* const end = destination + count * block;
  // Codes are random bits; only the scales are chosen.
  switch (type_) {
    case DType::kQ8_0:
      rng.fill(destination, count * block);
      for (uint8_t* b = destination; b != end; b++) *b = *b == 0x80 ? 0 : *b;
      for (uint8_t* b = destination; b != end; b += block) put_scale(b, *b);
      break;
    case DType::kIQ2_XXS:
      rng.fill(destination, count * block);
      for (uint8_t* b = destination; b != end; b += block) put_scale(b, *b);
      break;
    case DType::kQ2_K:
      rng.fill(destination, count * block);
      for (uint8_t* b = destination; b != end; b += block) put_scale_and_min(b + 80, b[80]);
      break;
    case DType::kQ4_K:
      rng.fill(destination, count * block);
      for (uint8_t* b = destination; b != end; b += block) put_scale_and_min(b, *b);
      break;
    case DType::kMXFP4:
      return write_mxfp4(count, destination, rng);
    case DType::kF16:
      return write_f16(first, count, destination, rng);
    case DType::kF32:
      return write_f32(first, count, destination, rng);
    case DType::kI32:
      return write_ids(count, destination, rng);
    default:
      NW_CHECK(false, "no filler for type {}", dtype_name(type_));
  }
}

void BlockFiller::write_mxfp4(int64_t count, uint8_t* destination, Rng& rng) const {
  constexpr int kBlock = 17;
  rng.fill(destination, count * kBlock);
  for (uint8_t* b = destination; b != destination + count * kBlock; b += kBlock)
    *b = static_cast<uint8_t>(exponent_ + (*b < n_upper_ ? 1 : 0));
}

void BlockFiller::write_f16(int64_t first, int64_t count, uint8_t* destination, Rng& rng) const {
  const auto put = [destination](int64_t i, uint16_t h) {
    std::memcpy(destination + 2 * i, &h, sizeof h);
  };
  if (fill_.kind != Fill::Kind::kNormal) {
    for (int64_t i = 0; i < count; i++) put(i, f32_to_f16(scalar(first + i, rng)));
    return;
  }
  constexpr uint64_t kMask = (1 << NormalTable::kBits) - 1;
  for (int64_t i = 0; i < count;) {
    uint64_t bits = rng.next();
    for (int k = 0; k < 5 && i < count; k++, bits >>= NormalTable::kBits)
      put(i++, half_[bits & kMask]);
  }
}

void BlockFiller::write_f32(int64_t first, int64_t count, uint8_t* destination, Rng& rng) const {
  for (int64_t i = 0; i < count; i++) {
    const float v = scalar(first + i, rng);
    std::memcpy(destination + 4 * i, &v, sizeof v);
  }
}

float BlockFiller::scalar(int64_t index, Rng& rng) const {
  double mean = fill_.mean;
  if (fill_.kind == Fill::Kind::kMixer) {
    const int64_t n = fill_.limit, cell = index - 2 * n;
    if (cell < 0 || cell % (n + 1) != 0) mean = 0;
  }
  return static_cast<float>(mean + (fill_.std != 0 ? fill_.std * rng.normal() : 0));
}

void BlockFiller::write_ids(int64_t count, uint8_t* destination, Rng& rng) const {
  std::vector<int32_t> row(fill_.row);
  for (int64_t r = 0; r + fill_.row <= count; r += fill_.row) {
    for (int i = 0; i < fill_.row; i++) {
      const auto begin = row.begin(), end = row.begin() + i;
      do row[i] = static_cast<int32_t>(rng.below(fill_.limit));
      while (std::find(begin, end, row[i]) != end);
    }
    std::memcpy(destination + 4 * r, row.data(), 4 * row.size());
  }
}

}  // namespace narwhal::synth_detail
