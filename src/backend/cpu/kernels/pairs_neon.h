// Products of pairs of rows by pairs of outputs (smmla, usmmla): one instruction adds up 2 x 2 sums
// of eight products. 16-bit activations are two planes of bytes, 256 hi + lo. The sums of a block
// are those of the other levels exactly.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels/body_unpack.h"
#include "backend/cpu/kernels/kernels.h"

namespace narwhal::cpu {

template <class V>
struct Pairs {
  using I = typename V::I;
  using F = typename V::F;

  // Two rows by 16 outputs: [j] has outputs 2 j and 2 j + 1 of the first row, then of the second.
  struct Sums {
    int32x4_t s[8];

    I row(int second) const {
      const auto at = [&](int q) {
        const int64x2_t a = vreinterpretq_s64_s32(s[2 * q]);
        const int64x2_t b = vreinterpretq_s64_s32(s[2 * q + 1]);
        return vreinterpretq_s32_s64(second ? vzip2q_s64(a, b) : vzip1q_s64(a, b));
      };
      return {{at(0), at(1), at(2), at(3)}};
    }
  };

  static constexpr int pairs_of(int m_rows) { return (m_rows + 1) / 2; }

  // ---- Panels, after unpacking: [inputs / 8][8 pairs of outputs][2][8].

  // From [n][16][4], in place.
  static void pair_up(void* panel, int n) {
    auto* w = static_cast<int32_t*>(panel);
    for (int k = 0; k < n; k += 2, w += 32) {
      int32x4_t first[4], second[4];
      for (int q = 0; q < 4; q++) {
        first[q] = vld1q_s32(w + 4 * q);
        second[q] = vld1q_s32(w + 16 + 4 * q);
      }
      for (int q = 0; q < 4; q++) {
        vst1q_s32(w + 8 * q, vzip1q_s32(first[q], second[q]));
        vst1q_s32(w + 8 * q + 4, vzip2q_s32(first[q], second[q]));
      }
    }
  }

  // 8 n minima of each output, from 16-bit pairs [4 n][16][2] to bytes, in place.
  static void pair_up_mins(int16_t (*mins)[kLanes][2], int n) {
    int8_t out[2][8][16];
    for (int g = 0; g < n; g++)
      for (int half = 0; half < 2; half++) {
        const auto bytes = [&](int t) {
          const auto* p = reinterpret_cast<const int8_t*>(mins[4 * g + t][8 * half]);
          return vreinterpretq_s16_s8(vuzp1q_s8(vld1q_s8(p), vld1q_s8(p + 16)));
        };
        const int16x8_t a = bytes(0), b = bytes(1), c = bytes(2), d = bytes(3);
        const auto put = [&](int j, int16x8_t left, int16x8_t right) {
          const int32x4_t l = vreinterpretq_s32_s16(left), r = vreinterpretq_s32_s16(right);
          vst1q_s8(out[g][4 * half + j], vreinterpretq_s8_s32(vzip1q_s32(l, r)));
          vst1q_s8(out[g][4 * half + j + 1], vreinterpretq_s8_s32(vzip2q_s32(l, r)));
        };
        put(0, vzip1q_s16(a, b), vzip1q_s16(c, d));
        put(2, vzip2q_s16(a, b), vzip2q_s16(c, d));
      }
    std::memcpy(mins, out, n * sizeof out[0]);
  }

  static void prepare(DType, BytePanel32* p) { pair_up(p->w, 8); }
  static void prepare(DType type, Panel256* p) {
    pair_up(p->w, 64);
    if (type != DType::kIQ2_XXS) pair_up_mins(p->mins, type == DType::kQ2_K ? 2 : 1);
  }

  // ---- Products.

  // Eight codes each of rows 2 p and 2 p + 1; an odd last row stands twice.
  template <int m_rows>
  static int8x16_t codes(const std::byte* const* acts, int64_t at, int p) {
    const auto row = [&](int r) {
      return vld1_s8(reinterpret_cast<const int8_t*>(acts[r < m_rows ? r : m_rows - 1] + at));
    };
    return vcombine_s8(row(2 * p), row(2 * p + 1));
  }

  // 8 n inputs from code `at` on; kUnsigned: of the activations.
  template <int m_rows, bool kUnsigned>
  static void multiply(const void* panel, int n, const std::byte* const* acts, int64_t at,
                       Sums* sums) {
    constexpr int kPairs = pairs_of(m_rows);
    const auto* w = static_cast<const int8_t*>(panel);
    for (int k = 0; k < n; k++) {
      int8x16_t x[kPairs];
      for (int p = 0; p < kPairs; p++) x[p] = codes<m_rows>(acts, at + 8 * k, p);
#pragma GCC unroll 8
      for (int j = 0; j < 8; j++) {
        const int8x16_t v = vld1q_s8(w + 128 * k + 16 * j);
        for (int p = 0; p < kPairs; p++)
          if constexpr (kUnsigned)
            sums[p].s[j] = vusmmlaq_s32(sums[p].s[j], vreinterpretq_u8_s8(x[p]), v);
          else
            sums[p].s[j] = vmmlaq_s32(sums[p].s[j], x[p], v);
      }
    }
  }

  template <int kPairs>
  static void clear(Sums* sums) {
    for (int p = 0; p < kPairs; p++)
      for (int j = 0; j < 8; j++) sums[p].s[j] = vdupq_n_s32(0);
  }
  template <int kPairs>
  static void times256(Sums* sums) {
    for (int p = 0; p < kPairs; p++)
#pragma GCC unroll 8
      for (int j = 0; j < 8; j++) sums[p].s[j] = vshlq_n_s32(sums[p].s[j], 8);
  }

  static F set_scale(const std::byte* act, int64_t at) {
    float scale;
    std::memcpy(&scale, act + at, 4);
    return V::set1(scale);
  }

  // As Matmul::tile of one panel.
  template <int m_rows>
  static void tile(const BytePanel32* panels, int64_t block, int64_t n_blocks,
                   const std::byte* const* acts, const ActLayout& a, float* const* sums) {
    constexpr int kPairs = pairs_of(m_rows);
    for (int64_t b = 0; b < n_blocks; b++) {
      const int64_t at = 32 * (block + b);
      Sums s[kPairs];
      clear<kPairs>(s);
      multiply<m_rows, false>(panels[b].w, 4, acts, a.hi + at, s);
      times256<kPairs>(s);
      multiply<m_rows, true>(panels[b].w, 4, acts, a.lo + at, s);
#pragma GCC unroll 4
      for (int m = 0; m < m_rows; m++) {
        const F d = V::mul(V::load(panels[b].d), set_scale(acts[m], a.scale + 4 * (block + b)));
        const F total = V::to_float(s[m / 2].row(m % 2));
        V::store(sums[m], V::add(V::load(sums[m]), V::mul(total, d)));
      }
    }
  }

  // Sums of groups begin at -64 times the activations of the group where weights are 64 too large.
  template <int m_rows, bool kStart>
  static void begin_group(const std::byte* const* acts, int64_t start, Sums* sums) {
    if constexpr (!kStart) return clear<pairs_of(m_rows)>(sums);
    const auto of = [&](int r) {
      int32_t value;
      std::memcpy(&value, acts[r < m_rows ? r : m_rows - 1] + start, 4);
      return vdup_n_s32(value);
    };
    for (int p = 0; p < pairs_of(m_rows); p++)
      for (int j = 0; j < 8; j++) sums[p].s[j] = vcombine_s32(of(2 * p), of(2 * p + 1));
  }

  template <int kPairs>
  static void add_scaled(const int32_t* scale, const Sums* sums, Sums* total) {
    for (int q = 0; q < 4; q++) {
      const int64x2_t two = vreinterpretq_s64_s32(vld1q_s32(scale + 4 * q));
      const int32x4_t left = vreinterpretq_s32_s64(vdupq_laneq_s64(two, 0));
      const int32x4_t right = vreinterpretq_s32_s64(vdupq_laneq_s64(two, 1));
      for (int p = 0; p < kPairs; p++) {
        int32x4_t* to = total[p].s + 2 * q;
        to[0] = vmlaq_s32(to[0], sums[p].s[2 * q], left);
        to[1] = vmlaq_s32(to[1], sums[p].s[2 * q + 1], right);
      }
    }
  }

  // Minima by sums of activations, which are split into planes here.
  template <int m_rows, int kMins>
  static void multiply_mins(const Panel256& panel, const std::byte* const* acts, int64_t at,
                            Sums* sums) {
    constexpr int kPairs = pairs_of(m_rows);
    alignas(16) int8_t hi[m_rows][2 * kMins], lo[m_rows][2 * kMins];
    const std::byte *high[m_rows], *low[m_rows];
    for (int m = 0; m < m_rows; m++) {
      for (int i = 0; i < 2 * kMins; i += 8) {
        int16x8_t v;
        std::memcpy(&v, acts[m] + at + 2 * i, sizeof v);
        vst1_s8(hi[m] + i, vshrn_n_s16(v, 8));
        vst1_s8(lo[m] + i, vmovn_s16(v));
      }
      high[m] = reinterpret_cast<const std::byte*>(hi[m]);
      low[m] = reinterpret_cast<const std::byte*>(lo[m]);
    }
    clear<kPairs>(sums);
    multiply<m_rows, false>(panel.mins, kMins / 4, high, 0, sums);
    times256<kPairs>(sums);
    multiply<m_rows, true>(panel.mins, kMins / 4, low, 0, sums);
  }

  // As Matmul::tile256 of one panel.
  template <int m_rows, bool kGroups, bool kStart, int kMins>
  static void tile256(const Panel256* panels, int64_t block, int64_t n_blocks,
                      const std::byte* const* acts, const ActLayout& a, float* const* sums) {
    constexpr int kPairs = pairs_of(m_rows);
    for (int64_t b = 0; b < n_blocks; b++) {
      const Panel256& panel = panels[b];
      const int64_t at = 256 * (block + b);
      Sums total[kPairs], minima[kPairs];
      clear<kPairs>(total);
      if constexpr (kGroups) {
        for (int g = 0; g < 8; g++) {
          Sums s[kPairs];
          begin_group<m_rows, kStart>(acts, a.start + 4 * (8 * (block + b) + g), s);
          multiply<m_rows, false>(panel.w[8 * g], 4, acts, at + 32 * g, s);
          add_scaled<kPairs>(panel.scale[g], s, total);
        }
      } else {
        multiply<m_rows, false>(panel.w, 32, acts, at, total);
      }
      if constexpr (kMins > 0)
        multiply_mins<m_rows, kMins>(
            panel, acts, (kMins == 8 ? a.sum16 : a.sum32) + 4 * kMins * (block + b), minima);
      for (int m = 0; m < m_rows; m++) {
        const F dx = set_scale(acts[m], a.scale + 4 * (block + b));
        F value = V::mul(V::mul(dx, V::load(panel.d)), V::to_float(total[m / 2].row(m % 2)));
        if constexpr (kMins > 0)
          value = V::sub(value, V::mul(V::mul(dx, V::load(panel.dmin)),
                                       V::to_float(minima[m / 2].row(m % 2))));
        V::store(sums[m], V::add(V::load(sums[m]), value));
      }
    }
  }
};

}  // namespace narwhal::cpu
