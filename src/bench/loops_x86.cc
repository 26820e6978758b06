// Dot-product and reading loops of x86-64. Each is compiled for its own instruction set and called
// only where the processor and the system have it.
#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "bench/limits.h"

namespace narwhal::bench {
namespace {

#define NW_TARGET(isa) __attribute__((target(isa)))

// The compiler must think that the value has changed, or it would hoist work out of the loop.
#define NW_OPAQUE(v) asm volatile("" : "+v"(v))

// The statement for j = 0 .. n - 1, unrolled: only so do the sums stay in registers.
#define NW_PRAGMA(text) _Pragma(#text)
#define NW_EACH(n, statement) \
  NW_PRAGMA(GCC unroll n)     \
  for (int j = 0; j < n; j++) statement

// 8 sums of 32 products each; unsigned by signed bytes, pairs widened by a second instruction.
NW_TARGET("avx2") void avx2_maddubs(int64_t n) {
  __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(2);
  const __m256i one = _mm256_set1_epi16(1);
  __m256i sum[8];
  NW_EACH(8, sum[j] = _mm256_setzero_si256());
  for (int64_t i = 0; i < n; i++) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
      asm volatile("" : "+x"(a), "+x"(b));
      const __m256i pairs = _mm256_maddubs_epi16(a, b);
      sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(pairs, one));
    }
  }
  NW_EACH(8, asm volatile("" : : "x"(sum[j])));
}

// 16 sums of 64 products.
NW_TARGET("avx512f,avx512bw,avx512vnni") void avx512_vnni(int64_t n) {
  __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  __m512i sum[16];
  NW_EACH(16, sum[j] = _mm512_setzero_si512());
  for (int64_t i = 0; i < n; i++) {
#pragma GCC unroll 16
    for (int j = 0; j < 16; j++) {
      NW_OPAQUE(a);
      sum[j] = _mm512_dpbusd_epi32(sum[j], a, b);
    }
  }
  NW_EACH(16, asm volatile("" : : "v"(sum[j])));
}

// The same for processors with the VNNI instructions in 256 bits only, by their VEX encoding.
NW_TARGET("avx2") void avx_vnni(int64_t n) {
  __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(2);
  __m256i sum[10];
  NW_EACH(10, sum[j] = _mm256_setzero_si256());
  for (int64_t i = 0; i < n; i++) {
#pragma GCC unroll 10
    for (int j = 0; j < 10; j++) {
      asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum[j]) : "x"(a), "x"(b));
    }
  }
  NW_EACH(10, asm volatile("" : : "x"(sum[j])));
}

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// 4 tiles of sums, 16 x 16 each, times 64 products.
NW_TARGET("amx-tile,amx-int8") void amx_int8(int64_t n) {
  TileConfig config;
  for (int t = 0; t < 8; t++) config.row_bytes[t] = 64, config.rows[t] = 16;
  alignas(64) int8_t ones[16 * 64];
  for (int8_t& v : ones) v = 1;
  // The tile intrinsics do not tell the compiler what they read.
  asm volatile("" : : "r"(&config), "r"(ones) : "memory");
  _tile_loadconfig(&config);
  _tile_loadd(4, ones, 64);
  _tile_loadd(5, ones, 64);
  _tile_loadd(6, ones, 64);
  _tile_loadd(7, ones, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < n; i++) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_release();
}

bool has_bit(unsigned leaf, unsigned subleaf, int reg, int bit) {
  unsigned r[4] = {};
  if (!__get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3])) return false;
  return (r[reg] >> bit & 1) != 0;
}

// Linux gives a process the tile registers only when it asks.
bool may_use_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kRequest = 0x1023, kTileData = 18;
  return has_bit(7, 0, 3, 24) && has_bit(7, 0, 3, 25) &&
         syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

NW_TARGET("avx512f") uint64_t sum_avx512(const void* p, int64_t n) {
  const auto* v = static_cast<const __m512i*>(p);
  __m512i sum[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (int j = 0; j < 4; j++) sum[j] = _mm512_add_epi64(sum[j], _mm512_load_si512(v + i + j));
  for (; i < n; i++) sum[0] = _mm512_add_epi64(sum[0], _mm512_load_si512(v + i));
  alignas(64) uint64_t part[8];
  _mm512_store_si512(
      part, _mm512_add_epi64(_mm512_add_epi64(sum[0], sum[1]), _mm512_add_epi64(sum[2], sum[3])));
  uint64_t total = 0;
  for (const uint64_t x : part) total += x;
  return total;
}

NW_TARGET("avx2") uint64_t sum_avx2(const void* p, int64_t n) {
  const auto* v = static_cast<const __m256i*>(p);
  __m256i sum[4] = {};
  const int64_t n_vectors = 2 * n;
  int64_t i = 0;
  for (; i + 4 <= n_vectors; i += 4)
    for (int j = 0; j < 4; j++) sum[j] = _mm256_add_epi64(sum[j], _mm256_load_si256(v + i + j));
  for (; i < n_vectors; i++) sum[0] = _mm256_add_epi64(sum[0], _mm256_load_si256(v + i));
  alignas(32) uint64_t part[4];
  _mm256_store_si256(
      reinterpret_cast<__m256i*>(part),
      _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3])));
  return part[0] + part[1] + part[2] + part[3];
}

uint64_t sum_plain(const void* p, int64_t n) {
  const auto* v = static_cast<const uint64_t*>(p);
  uint64_t total = 0;
  for (int64_t i = 0; i < 8 * n; i++) total += v[i];
  return total;
}

}  // namespace

std::vector<PeakKernel> peak_kernels() {
  std::vector<PeakKernel> kernels;
  if (__builtin_cpu_supports("avx2"))
    kernels.push_back({"avx2 maddubs", false, 8 * 32, avx2_maddubs});
  if (__builtin_cpu_supports("avx2") && has_bit(7, 1, 0, 4))
    kernels.push_back({"avx vnni", false, 10 * 32, avx_vnni});
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni"))
    kernels.push_back({"avx512 vnni", false, 16 * 64, avx512_vnni});
  if (may_use_tiles()) kernels.push_back({"amx int8", true, 4 * 16 * 16 * 64, amx_int8});
  return kernels;
}

uint64_t sum_lines(const void* p, int64_t n) {
  if (__builtin_cpu_supports("avx512f")) return sum_avx512(p, n);
  if (__builtin_cpu_supports("avx2")) return sum_avx2(p, n);
  return sum_plain(p, n);
}

}  // namespace narwhal::bench

#endif
