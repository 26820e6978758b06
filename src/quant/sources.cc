#include "quant/sources.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "quant/fp4.h"
#include "quant/fp8.h"
#include "quant/mxfp4.h"

namespace narwhal::quant {
namespace {

constexpr int64_t kTile = 128;
constexpr int64_t kFp4Values = 32;

// kBadInput when one of dst[begin, end) is not finite.
Status check_finite(const float* dst, int64_t begin, int64_t end, const uint8_t* codes,
                    uint8_t scale) {
  bool finite = true;
  for (int64_t c = begin; c < end; ++c) finite &= std::fabs(dst[c]) < INFINITY;
  if (finite) return ok_status();
  const int64_t bad =
      std::find_if(dst + begin, dst + end, [](float v) { return !std::isfinite(v); }) - dst;
  return bad_input(
      fmt::format("column {}: FP8 code {:#04x} with scale byte {} is no finite number; "
                  "the checkpoint is damaged, download it again",
                  bad, codes[bad], scale));
}

Status check_fp4_scales(const uint8_t* scales, int64_t n) {
  for (int64_t b = 0; b < n / kFp4Values; ++b)
    if (scales[b] >= 253)  // 6 * 2^126 is the first product that overflows
      return bad_input(
          fmt::format("column {}: FP4 scale byte {}, expected 0..252; "
                      "the checkpoint is damaged, download it again",
                      b * kFp4Values, scales[b]));
  return ok_status();
}

}  // namespace

Status decode_fp8_row(const uint8_t* codes, const uint8_t* scales, int64_t n, float* dst) {
  for (int64_t begin = 0; begin < n; begin += kTile) {
    const int64_t end = std::min(n, begin + kTile);
    const uint8_t e = scales[begin / kTile];
    const float scale = e8m0_to_f32(e);
    for (int64_t c = begin; c < end; ++c) dst[c] = e4m3_to_f32(codes[c]) * scale;
    NW_TRY(check_finite(dst, begin, end, codes, e));
  }
  return ok_status();
}

Status decode_fp4_row(const uint8_t* packed, const uint8_t* scales, int64_t n, float* dst) {
  NW_CHECK(n % kFp4Values == 0, "n = {}", n);
  NW_TRY(check_fp4_scales(scales, n));
  for (int64_t b = 0; b < n / 2; ++b) {
    const float scale = e8m0_to_f32(scales[2 * b / kFp4Values]);
    dst[2 * b] = e2m1_to_f32(packed[b]) * scale;
    dst[2 * b + 1] = e2m1_to_f32(packed[b] >> 4) * scale;
  }
  return ok_status();
}

Status repack_fp4_row(const uint8_t* packed, const uint8_t* scales, int64_t n, void* mxfp4) {
  NW_CHECK(n % kFp4Values == 0, "n = {}", n);
  NW_TRY(check_fp4_scales(scales, n));
  auto* block = static_cast<BlockMXFP4*>(mxfp4);
  for (int64_t b = 0; b < n / kFp4Values; ++b)
    block[b] = mxfp4_from_adjacent(packed + 16 * b, scales[b]);
  return ok_status();
}

}  // namespace narwhal::quant
