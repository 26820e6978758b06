// Dot-product and reading loops of AArch64. The assembler is told of the extension where it is
// used, so that the file needs no compiler options.
#if defined(__aarch64__)

#include <arm_neon.h>

#include <algorithm>

#include "backend/cpu/kernels/level.h"
#include "bench/limits.h"

namespace narwhal::bench {
namespace {

// clang's assembler goes by the function's target, GNU's by the directive before the instruction.
#ifdef __clang__
#define NW_TARGET(extension) __attribute__((target(extension)))
#define NW_ARCH(extension) ""
#else
#define NW_TARGET(extension)
#define NW_ARCH(extension) ".arch armv8.2-a+" extension "\n\t"
#endif

// 16 sums of 16 products.
NW_TARGET("dotprod") void neon_sdot(int64_t n) {
  const int8x16_t a = vdupq_n_s8(1), b = vdupq_n_s8(2);
  int32x4_t sum[16] = {};
  for (int64_t i = 0; i < n; i++) {
#pragma GCC unroll 16
    for (int j = 0; j < 16; j++)
      asm volatile(NW_ARCH("dotprod") "sdot %0.4s, %1.16b, %2.16b" : "+w"(sum[j]) : "w"(a), "w"(b));
  }
}

// 16 sums of 2 x 2, times 8 products.
NW_TARGET("i8mm") void neon_smmla(int64_t n) {
  const int8x16_t a = vdupq_n_s8(1), b = vdupq_n_s8(2);
  int32x4_t sum[16] = {};
  for (int64_t i = 0; i < n; i++) {
#pragma GCC unroll 16
    for (int j = 0; j < 16; j++)
      asm volatile(NW_ARCH("i8mm") "smmla %0.4s, %1.16b, %2.16b" : "+w"(sum[j]) : "w"(a), "w"(b));
  }
}

bool has(cpu::Level level) {
  const auto& levels = cpu::available_levels();
  return std::find(levels.begin(), levels.end(), level) != levels.end();
}

}  // namespace

std::vector<PeakKernel> peak_kernels() {
  std::vector<PeakKernel> kernels;
  if (has(cpu::Level::kNeon)) kernels.push_back({"neon sdot", false, 16 * 16, neon_sdot});
  if (has(cpu::Level::kI8mm)) kernels.push_back({"neon smmla", false, 16 * 32, neon_smmla});
  return kernels;
}

uint64_t sum_lines(const void* p, int64_t n) {
  const auto* v = static_cast<const uint64_t*>(p);
  uint64x2_t sum[4] = {};
  for (int64_t i = 0; i < n; i++)
    for (int j = 0; j < 4; j++) sum[j] = vaddq_u64(sum[j], vld1q_u64(v + 8 * i + 2 * j));
  return vaddvq_u64(vaddq_u64(vaddq_u64(sum[0], sum[1]), vaddq_u64(sum[2], sum[3])));
}

}  // namespace narwhal::bench

#endif
