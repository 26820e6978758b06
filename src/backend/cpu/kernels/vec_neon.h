// The vocabulary of vec_portable.h in four 128-bit registers, with dot-product instructions.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "backend/cpu/kernels/level.h"

namespace narwhal::cpu {

struct Neon {
  static constexpr Level kLevel = Level::kNeon;
  static constexpr int kTileRows = 3, kTilePanels = 1;
  static constexpr int kDotRows = 2, kDotOutputs = 2;
  static constexpr bool kFastRows = false;
  static constexpr bool kStreams = false;
  static constexpr bool kPairs = false;

  using F = float32x4x4_t;
  using I = int32x4x4_t;
  using W = int8x16x4_t;

  template <class Op>
  static F each(F a, F b, Op op) {
    return {{op(a.val[0], b.val[0]), op(a.val[1], b.val[1]), op(a.val[2], b.val[2]),
             op(a.val[3], b.val[3])}};
  }
  template <class Op>
  static I each(I a, I b, Op op) {
    return {{op(a.val[0], b.val[0]), op(a.val[1], b.val[1]), op(a.val[2], b.val[2]),
             op(a.val[3], b.val[3])}};
  }

  static F load(const float* p) {
    return {{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
  }
  static void store(float* p, F x) {
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, x.val[i]);
  }
  static F set1(float x) {
    const float32x4_t v = vdupq_n_f32(x);
    return {{v, v, v, v}};
  }
  static F zero() { return set1(0); }
  static F add(F a, F b) {
    return each(a, b, [](float32x4_t x, float32x4_t y) { return vaddq_f32(x, y); });
  }
  static F sub(F a, F b) {
    return each(a, b, [](float32x4_t x, float32x4_t y) { return vsubq_f32(x, y); });
  }
  static F mul(F a, F b) {
    return each(a, b, [](float32x4_t x, float32x4_t y) { return vmulq_f32(x, y); });
  }
  static F div(F a, F b) {
    return each(a, b, [](float32x4_t x, float32x4_t y) { return vdivq_f32(x, y); });
  }
  static F fma(F a, F b, F c) {
    return {{vfmaq_f32(c.val[0], a.val[0], b.val[0]), vfmaq_f32(c.val[1], a.val[1], b.val[1]),
             vfmaq_f32(c.val[2], a.val[2], b.val[2]), vfmaq_f32(c.val[3], a.val[3], b.val[3])}};
  }
  // b where either is NaN, as x86 has it.
  static F max(F a, F b) {
    return each(a, b,
                [](float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); });
  }
  static F min(F a, F b) {
    return each(a, b,
                [](float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); });
  }
  static float sum(F x) {
    const float32x4_t s = vaddq_f32(vaddq_f32(x.val[0], x.val[2]), vaddq_f32(x.val[1], x.val[3]));
    return (vgetq_lane_f32(s, 0) + vgetq_lane_f32(s, 2)) +
           (vgetq_lane_f32(s, 1) + vgetq_lane_f32(s, 3));
  }
  static F widen_halves(uint16x8_t a, uint16x8_t b) {
    const auto wide = [](uint16x4_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(h)); };
    return {{wide(vget_low_u16(a)), wide(vget_high_u16(a)), wide(vget_low_u16(b)),
             wide(vget_high_u16(b))}};
  }
  static uint16x8_t words(const void* p, int64_t i) {
    return vreinterpretq_u16_u8(vld1q_u8(static_cast<const uint8_t*>(p) + 16 * i));
  }
  static F load_f16(const void* p) { return widen_halves(words(p, 0), words(p, 1)); }
  static F load_bf16(const void* p) {
    const uint16x8_t a = words(p, 0), b = words(p, 1);
    const auto wide = [](uint16x4_t h) { return vreinterpretq_f32_u32(vshll_n_u16(h, 16)); };
    return {{wide(vget_low_u16(a)), wide(vget_high_u16(a)), wide(vget_low_u16(b)),
             wide(vget_high_u16(b))}};
  }
  static F load_e4m3(const uint8_t* p) {
    const uint8x16_t c = vld1q_u8(p);
    const auto half = [](uint16x8_t v) {
      return vorrq_u16(vshlq_n_u16(vandq_u16(v, vdupq_n_u16(0x80)), 8),
                       vshlq_n_u16(vandq_u16(v, vdupq_n_u16(0x7f)), 7));
    };
    return mul(widen_halves(half(vmovl_u8(vget_low_u8(c))), half(vmovl_u8(vget_high_u8(c)))),
               set1(256.0f));
  }

  static I iload(const void* p) {
    const auto* b = static_cast<const int8_t*>(p);
    const auto at = [&](int i) { return vreinterpretq_s32_s8(vld1q_s8(b + 16 * i)); };
    return {{at(0), at(1), at(2), at(3)}};
  }
  static void istore(void* p, I x) {
    for (int i = 0; i < 4; i++)
      vst1q_s8(static_cast<int8_t*>(p) + 16 * i, vreinterpretq_s8_s32(x.val[i]));
  }
  static I iset1(int32_t x) {
    const int32x4_t v = vdupq_n_s32(x);
    return {{v, v, v, v}};
  }
  static I iadd(I a, I b) {
    return each(a, b, [](int32x4_t x, int32x4_t y) { return vaddq_s32(x, y); });
  }
  static I isub(I a, I b) {
    return each(a, b, [](int32x4_t x, int32x4_t y) { return vsubq_s32(x, y); });
  }
  static I imul(I a, I b) {
    return each(a, b, [](int32x4_t x, int32x4_t y) { return vmulq_s32(x, y); });
  }
  static I iand(I a, I b) {
    return each(a, b, [](int32x4_t x, int32x4_t y) { return vandq_s32(x, y); });
  }
  static I imax(I a, I b) {
    return each(a, b, [](int32x4_t x, int32x4_t y) { return vmaxq_s32(x, y); });
  }
  template <int n>
  static I ishl(I a) {
    return {{vshlq_n_s32(a.val[0], n), vshlq_n_s32(a.val[1], n), vshlq_n_s32(a.val[2], n),
             vshlq_n_s32(a.val[3], n)}};
  }
  template <int n>
  static I isra(I a) {
    return {{vshrq_n_s32(a.val[0], n), vshrq_n_s32(a.val[1], n), vshrq_n_s32(a.val[2], n),
             vshrq_n_s32(a.val[3], n)}};
  }
  static F to_float(I x) {
    return {{vcvtq_f32_s32(x.val[0]), vcvtq_f32_s32(x.val[1]), vcvtq_f32_s32(x.val[2]),
             vcvtq_f32_s32(x.val[3])}};
  }
  static I to_int(F x) {
    return {{vcvtnq_s32_f32(x.val[0]), vcvtnq_s32_f32(x.val[1]), vcvtnq_s32_f32(x.val[2]),
             vcvtnq_s32_f32(x.val[3])}};
  }
  static F as_float(I x) {
    return {{vreinterpretq_f32_s32(x.val[0]), vreinterpretq_f32_s32(x.val[1]),
             vreinterpretq_f32_s32(x.val[2]), vreinterpretq_f32_s32(x.val[3])}};
  }
  static I as_int(F x) {
    return {{vreinterpretq_s32_f32(x.val[0]), vreinterpretq_s32_f32(x.val[1]),
             vreinterpretq_s32_f32(x.val[2]), vreinterpretq_s32_f32(x.val[3])}};
  }
  static int32_t imax_all(I x) {
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(x.val[0], x.val[1]), vmaxq_s32(x.val[2], x.val[3])));
  }
  static int32_t isum(I x) {
    return vaddvq_s32(vaddq_s32(vaddq_s32(x.val[0], x.val[1]), vaddq_s32(x.val[2], x.val[3])));
  }
  static int16x8_t narrow(int32x4_t a, int32x4_t b) {
    return vcombine_s16(vmovn_s32(a), vmovn_s32(b));
  }
  static void store_i8(int8_t* p, I x) {
    vst1q_s8(p, vcombine_s8(vmovn_s16(narrow(x.val[0], x.val[1])),
                            vmovn_s16(narrow(x.val[2], x.val[3]))));
  }
  static void store_i16(int16_t* p, I x) {
    vst1q_s16(p, narrow(x.val[0], x.val[1]));
    vst1q_s16(p + 8, narrow(x.val[2], x.val[3]));
  }

  static W wload(const void* p) {
    const auto* b = static_cast<const int8_t*>(p);
    return {{vld1q_s8(b), vld1q_s8(b + 16), vld1q_s8(b + 32), vld1q_s8(b + 48)}};
  }
  static int32x4_t four(const void* x) {
    int32_t v;
    __builtin_memcpy(&v, x, 4);
    return vdupq_n_s32(v);
  }
  // Weights are below 128, so signed products serve.
  static I dp8(I s, W w, const void* x) {
    const int8x16_t v = vreinterpretq_s8_s32(four(x));
    return {{vdotq_s32(s.val[0], w.val[0], v), vdotq_s32(s.val[1], w.val[1], v),
             vdotq_s32(s.val[2], w.val[2], v), vdotq_s32(s.val[3], w.val[3], v)}};
  }
  static int32x4_t pair_products(int32x4_t s, int8x16_t w, int16x8_t x) {
    const int16x8_t v = vreinterpretq_s16_s8(w);
    const int32x4_t low = vmull_s16(vget_low_s16(v), vget_low_s16(x)), high = vmull_high_s16(v, x);
    return vaddq_s32(s, vpaddq_s32(low, high));
  }
  static I dp16(I s, W w, const void* x) {
    const int16x8_t v = vreinterpretq_s16_s32(four(x));
    return {{pair_products(s.val[0], w.val[0], v), pair_products(s.val[1], w.val[1], v),
             pair_products(s.val[2], w.val[2], v), pair_products(s.val[3], w.val[3], v)}};
  }

  static void interleave16(const uint8_t* const* rows, int64_t offset, void* out) {
    auto* to = static_cast<uint8_t*>(out);
    for (int quad = 0; quad < 4; quad++) {
      const auto at = [&](int j) {
        return vreinterpretq_u32_u8(vld1q_u8(rows[4 * quad + j] + offset));
      };
      const uint32x4_t r0 = at(0), r1 = at(1), r2 = at(2), r3 = at(3);
      const auto lo = [](uint32x4_t a, uint32x4_t b) {
        return vreinterpretq_u64_u32(vtrn1q_u32(a, b));
      };
      const auto hi = [](uint32x4_t a, uint32x4_t b) {
        return vreinterpretq_u64_u32(vtrn2q_u32(a, b));
      };
      const uint64x2_t a = lo(r0, r1), b = hi(r0, r1), c = lo(r2, r3), d = hi(r2, r3);
      vst1q_u8(to + 16 * quad, vreinterpretq_u8_u64(vtrn1q_u64(a, c)));
      vst1q_u8(to + 64 + 16 * quad, vreinterpretq_u8_u64(vtrn1q_u64(b, d)));
      vst1q_u8(to + 128 + 16 * quad, vreinterpretq_u8_u64(vtrn2q_u64(a, c)));
      vst1q_u8(to + 192 + 16 * quad, vreinterpretq_u8_u64(vtrn2q_u64(b, d)));
    }
  }
  static void widen(W w, void* out) {
    auto* to = static_cast<int8_t*>(out);
    for (int i = 0; i < 4; i++) {
      const int16x8_t v = vreinterpretq_s16_s8(w.val[i]);
      vst1q_s8(to + 16 * i, vreinterpretq_s8_s16(vshrq_n_s16(vshlq_n_s16(v, 8), 8)));
      vst1q_s8(to + 64 + 16 * i, vreinterpretq_s8_s16(vshrq_n_s16(v, 8)));
    }
  }
  static void lookup_nibbles(const int8_t* table, const uint8_t* p, int8_t* out) {
    const int8x16_t t = vld1q_s8(table);
    const uint8x16_t both = vld1q_u8(p);
    vst1q_s8(out, vqtbl1q_s8(t, vandq_u8(both, vdupq_n_u8(15))));
    vst1q_s8(out + 16, vqtbl1q_s8(t, vshrq_n_u8(both, 4)));
  }
  static void prefetch(const void* p) { __builtin_prefetch(p); }
};

}  // namespace narwhal::cpu
