// The vocabulary on the CPU: every thread of a group is a fiber (backend/emu/machine.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#define k_device
#define k_shared
#define k_private
#define k_table inline constexpr
#define k_fn inline
#define k_call inline
#define k_fn_member inline
#define k_const const
#define k_value static constexpr
#define k_unroll

#include "kernels/portable_bytes.h"

namespace narwhal {

namespace emu {
class Machine;
void barrier(Machine& m);
void simd_barrier(Machine& m);
// Every lane of the simd gives a value and gets to see all 32; valid until its next exchange.
const uint32_t* exchange(Machine& m, uint32_t value);
[[noreturn]] void misaligned(const void* p);                               // an access of 16 bytes
const uint32_t* exchange_many(Machine& m, const uint32_t* values, int n);  // [32][n]

// Copies that a thread has begun. They are made when it waits for them, so one that is not waited
// for shows as memory that was never written.
struct Copies {
  static constexpr int kMost = 16;
  void* to[kMost];
  const void* from[kMost];
  int n_bytes[kMost];
  int n;
};
Copies& copies(Machine& m);
void await_results(Machine& m);
void release_next(Machine& m);
}  // namespace emu

namespace kernels {

k_value bool kLargeShared = true;  // 48 KiB of shared memory for a group, else 32
k_value int kGridCopies = 32;      // of the entries of a GridTable for products of few rows
// Rows of a matrix tile (tile.h), where there are many rows and where few.
k_value int kTileTokens = 128, kFewTileTokens = 64;

inline float k_float(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
inline uint32_t k_bits(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  return bits;
}
inline float k_sqrt(float x) { return std::sqrt(x); }
inline float k_exp(float x) { return std::exp(x); }
inline float k_log(float x) { return std::log(x); }
inline float k_fma(float a, float b, float c) { return std::fma(a, b, c); }
inline float k_mad(float a, float b, float c) { return a * b + c; }
inline float k_abs(float x) { return std::fabs(x); }

struct Word4 {
  uint32_t v[4];
};
inline void check_aligned(const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0) emu::misaligned(p);
}
inline Word4 k_load4(const void* p) {
  check_aligned(p);
  Word4 w;
  std::memcpy(&w, p, 16);
  return w;
}
inline void k_store4(void* p, const Word4& w) {
  check_aligned(p);
  std::memcpy(p, &w, 16);
}

inline void k_load8(const uint8_t* p, uint32_t* low, uint32_t* high) {
  std::memcpy(low, p, 4);
  std::memcpy(high, p + 4, 4);
}

inline float k_f16_to_f32(uint16_t h) {
  const uint32_t magnitude = h & 0x7fffu, sign = uint32_t(h & 0x8000u) << 16;
  if (magnitude >= 0x7c00u) return k_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x400u) return k_float(sign | ((magnitude << 13) + (112u << 23)));
  return k_float(sign | k_bits(k_float(0x3f000000u | magnitude) - 0.5f));
}
inline uint16_t k_f32_to_f16(float x) {  // nearest, ties to even
  const uint32_t magnitude = k_bits(x) & 0x7fffffffu, sign = k_bits(x) >> 16 & 0x8000u;
  if (magnitude > 0x7f800000u) return uint16_t(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return uint16_t(sign | 0x7c00u);
  if (magnitude < 0x38800000u)
    return uint16_t(sign | (k_bits(k_float(magnitude) + 0.5f) - 0x3f000000u));
  return uint16_t(sign | (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}
inline uint32_t k_half2(float low, float high) {
  return uint32_t(k_f32_to_f16(low)) | uint32_t(k_f32_to_f16(high)) << 16;
}
// a b + c rounded once: the sum of a product of halves and a half fits a double, but for digits far
// below; rounded to odd on the way, a float keeps what the last rounding needs.
inline uint16_t half_fma(uint16_t a, uint16_t b, uint16_t c) {
  const double sum = double(k_f16_to_f32(a)) * k_f16_to_f32(b) + k_f16_to_f32(c);
  const float near = static_cast<float>(sum);
  uint32_t bits = k_bits(near);
  if (std::fabs(near) <= std::numeric_limits<float>::max() && near != sum)
    bits = (std::fabs(double(near)) > std::fabs(sum) ? bits - 1 : bits) | 1u;
  return k_f32_to_f16(k_float(bits));
}
inline uint32_t k_half2_fma(uint32_t a, uint32_t b, uint32_t c) {
  return uint32_t(half_fma(uint16_t(a), uint16_t(b), uint16_t(c))) |
         uint32_t(half_fma(uint16_t(a >> 16), uint16_t(b >> 16), uint16_t(c >> 16))) << 16;
}
inline uint32_t k_half2_add(uint32_t a, uint32_t b) { return k_half2_fma(a, 0x3c003c00u, b); }
inline uint32_t k_half2_mul(uint32_t a, uint32_t b) {  // floats hold products of halves
  return k_half2(k_f16_to_f32(uint16_t(a)) * k_f16_to_f32(uint16_t(b)),
                 k_f16_to_f32(uint16_t(a >> 16)) * k_f16_to_f32(uint16_t(b >> 16)));
}
inline void k_unpack_s8(uint32_t w, float* out) {
  for (int i = 0; i < 4; i++) out[i] = static_cast<float>(static_cast<int8_t>(w >> 8 * i));
}
inline int k_round(float x) { return static_cast<int>(std::lrint(x)); }
inline float k_reciprocal(float x) { return 1.0f / x; }

using k_atomic = uint32_t;
inline void k_atomic_zero(k_atomic* a) { __atomic_store_n(a, 0, __ATOMIC_RELAXED); }
inline uint32_t k_atomic_add(k_atomic* a, uint32_t v) {
  return __atomic_fetch_add(a, v, __ATOMIC_RELAXED);
}
inline uint32_t k_atomic_get(k_atomic* a) { return __atomic_load_n(a, __ATOMIC_RELAXED); }

}  // namespace kernels
}  // namespace narwhal

#include "kernels/portable_frags.h"

namespace narwhal {
namespace kernels {

struct Group : Lanes {
  emu::Machine* machine;

  unsigned n_simds() const { return size / 32; }
  void barrier() const { emu::barrier(*machine); }
  void simd_barrier() const { emu::simd_barrier(*machine); }
  void await_results() const { emu::await_results(*machine); }
  void release_next() const { emu::release_next(*machine); }
  float simd_sum(float x) const {
    const uint32_t* all = emu::exchange(*machine, k_bits(x));
    float t[32];
    std::memcpy(t, all, sizeof t);
    for (int m = 16; m > 0; m /= 2)
      for (int i = 0; i < m; i++) t[i] += t[i + m];
    return t[0];
  }
  uint32_t simd_max(uint32_t x) const {
    const uint32_t* all = emu::exchange(*machine, x);
    for (int i = 0; i < 32; i++) x = all[i] > x ? all[i] : x;
    return x;
  }
  uint32_t simd_shuffle(uint32_t x, unsigned from) const {
    return emu::exchange(*machine, x)[from & 31];
  }
  float simd_shuffle(float x, unsigned from) const {
    return k_float(emu::exchange(*machine, k_bits(x))[from & 31]);
  }

  void copy_later(void* to, const void* from, int n_bytes) const {
    emu::Copies& c = emu::copies(*machine);
    if (c.n == emu::Copies::kMost) copy_wait();  // any may come early
    c.to[c.n] = to;
    c.from[c.n] = from;
    c.n_bytes[c.n++] = n_bytes;
  }
  void copy_async(uint16_t* to, const void* from) const {
    copy_later(__builtin_assume_aligned(to, 16), __builtin_assume_aligned(from, 16), 16);
  }
  void copy_wait() const {
    emu::Copies& c = emu::copies(*machine);
    for (int i = 0; i < c.n; i++)
      std::memcpy(c.to[i], c.from[i], static_cast<size_t>(c.n_bytes[i]));
    c.n = 0;
  }

  int copy_row(uint8_t* to, const uint8_t* from, int n_bytes) const {
    const auto skip = static_cast<int>(reinterpret_cast<uintptr_t>(from) & 15);
    for (int i = 16 * static_cast<int>(lane); i < n_bytes; i += 16 * 32)
      copy_later(to + skip + i, from + i, n_bytes - i < 16 ? n_bytes - i : 16);
    return skip;
  }
  void store_column_sums(const FragC& c, float* p) const {
    const uint32_t mine[2] = {k_bits(c.r[0] + c.r[2]), k_bits(c.r[1] + c.r[3])};
    const uint32_t* all = emu::exchange_many(*machine, mine, 2);
    if (lane >= 8) return;
    float t[8];
    for (unsigned i = 0; i < 8; i++) t[i] = k_float(all[(4 * i + lane / 2) * 2 + lane % 2]);
    for (int m = 1; m < 8; m *= 2)
      for (int i = 0; i < 8; i += 2 * m) t[i] += t[i + m];
    p[lane] = t[0];
  }
  void mma(FragC& c, const FragA& a, const FragB& b) const {
    const uint32_t mine[6] = {a.r[0], a.r[1], a.r[2], a.r[3], b.r[0], b.r[1]};
    const uint32_t* all = emu::exchange_many(*machine, mine, 6);
    for (unsigned i = 0; i < 4; i++) {
      const unsigned row = lane / 4 + i / 2 * 8, column = 2 * (lane % 4) + i % 2;
      for (unsigned k = 0; k < 16; k++) {
        const uint32_t wa = all[(row % 8 * 4 + k % 8 / 2) * 6 + row / 8 + 2 * (k / 8)];
        const uint32_t wb = all[(column * 4 + k % 8 / 2) * 6 + 4 + k / 8];
        c.r[i] +=
            k_f16_to_f32(uint16_t(wa >> 16 * (k % 2))) * k_f16_to_f32(uint16_t(wb >> 16 * (k % 2)));
      }
    }
  }
  // c += 16 x 32 signed bytes times 32 x 8.
  void mma_bytes(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) const {
    const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const uint32_t* all = emu::exchange_many(*machine, mine, 6);
    for (unsigned i = 0; i < 4; i++) {
      const unsigned row = lane / 4 + i / 2 * 8, column = 2 * (lane % 4) + i % 2;
      for (unsigned k = 0; k < 8; k++)  // four columns of a
        c[i] = k_dot4(all[(row % 8 * 4 + k % 4) * 6 + row / 8 + k / 4 * 2],
                      all[(column * 4 + k % 4) * 6 + 4 + k / 4], c[i]);
    }
  }
};

}  // namespace kernels
}  // namespace narwhal

#include "kernels/portable_byte_tiles.h"
