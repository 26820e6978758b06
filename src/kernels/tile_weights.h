// Weights as matrix tiles take them: 16 columns of a row at a time, as half pairs.
//
// HalfRun<Codec> reads a run's bytes into registers (load) and turns them into eight words of
// halves (halves; with the codec's table and the lane, which says whose copy), the nearest half of
// the exact weight. A weight beyond +-65504 becomes infinite. The first column of a run is a
// multiple of 16.
//
// Integers become halves without conversions: a byte b under the bits of 1024 reads 1024 + b.
#pragma once

#include "kernels/weights.h"

namespace narwhal {
namespace kernels {

k_value int kHalfRun = 16;

template <class C>
struct HalfRun;

// A word of bytes as two words of 1024 + byte.
k_fn void halves_of_bytes(uint32_t bytes, k_private uint32_t* out) {
  out[0] = k_permute(bytes, 0x64646464u, 0x4140u);
  out[1] = k_permute(bytes, 0x64646464u, 0x4342u);
}

k_value uint32_t kMinus1152 = 0xe480e480u;  // a pair of halves: 1024, and 128 for signed bytes

template <bool kBf16>
struct HalfRun<CodecHalf<kBf16>> {
  struct Raw {
    uint32_t q[8];
  };
  static k_fn_member void load(k_private const Planes& w, int column, k_private Raw& raw) {
    load_words(w.a + column * 2, raw.q);
    load_words(w.a + column * 2 + 16, raw.q + 4);
  }
  static k_fn_member void halves(k_private const Raw& raw, int, k_shared const NoTable*, unsigned,
                                 k_private uint32_t* out) {
    k_unroll for (int i = 0; i < 8; i++) out[i] =
        kBf16 ? k_half2(k_float(raw.q[i] << 16), k_float(raw.q[i] & 0xffff0000u)) : raw.q[i];
  }
};

// 1.8 operations a weight.
template <>
struct HalfRun<CodecQ8_0> {
  struct Raw {
    uint32_t q[4], d;
  };
  static k_fn_member void load(k_private const Planes& w, int column, k_private Raw& raw) {
    const int block = column / 32 * CodecQ8_0::kStripe;
    load_words(w.a + block * 32 + column % 32, raw.q);
    raw.d = load_u16(w.b + block * 2);
  }
  static k_fn_member void halves(k_private const Raw& raw, int, k_shared const NoTable*, unsigned,
                                 k_private uint32_t* out) {
    const uint32_t d = raw.d * 0x10001u;
    k_unroll for (int i = 0; i < 4; i++) halves_of_bytes(raw.q[i] ^ 0x80808080u, out + 2 * i);
    k_unroll for (int i = 0; i < 8; i++) out[i] = k_half2_mul(k_half2_add(out[i], kMinus1152), d);
  }
};

// f32 holds d * scale * q and dmin * minimum exactly: the difference is rounded there, then to
// half.
template <>
struct HalfRun<CodecQ4_K> {
  struct Raw {
    uint32_t q[4], head[4];
  };
  static k_fn_member void load(k_private const Planes& w, int column, k_private Raw& raw) {
    const int block = column / 256 * CodecQ4_K::kStripe;
    load_words(w.a + block * 128 + column % 256 / 64 * 32 + column % 32, raw.q);
    load_words(w.b + block * 16, raw.head);
  }
  static k_fn_member void halves(k_private const Raw& raw, int column, k_shared const NoTable*,
                                 unsigned, k_private uint32_t* out) {
    const int j = column % 256 / 32, shift = 8 * (j % 4);
    // Words of s: low scales, low minima, and the low nibbles of the upper four of both.
    const uint32_t a = raw.head[1] >> shift, b = raw.head[2] >> shift, c = raw.head[3] >> shift;
    const uint32_t scale = j < 4 ? a & 63u : (c & 15u) | (a >> 6 & 3u) << 4;
    const uint32_t minimum = j < 4 ? b & 63u : (c >> 4 & 15u) | (b >> 6 & 3u) << 4;
    const float d = k_f16_to_f32(uint16_t(raw.head[0])) * float(scale);
    const float m = k_f16_to_f32(uint16_t(raw.head[0] >> 16)) * float(minimum);
    k_unroll for (int i = 0; i < 4; i++) {
      float q[4];
      k_unpack_s8(raw.q[i] >> 4 * (j % 2) & 0x0f0f0f0fu, q);
      out[2 * i] = k_half2(k_mad(q[0], d, -m), k_mad(q[1], d, -m));
      out[2 * i + 1] = k_half2(k_mad(q[2], d, -m), k_mad(q[3], d, -m));
    }
  }
};

// A run has four values: they are made once, and every pair of codes chooses two of them. 2.5
// operations a weight.
template <>
struct HalfRun<CodecQ2_K> {
  struct Raw {
    uint32_t q[4], s, d;
  };
  static k_fn_member void load(k_private const Planes& w, int column, k_private Raw& raw) {
    const int block = column / 256 * CodecQ2_K::kStripe, upper = column % 256 / 128;
    load_words(w.a + block * 64 + upper * 32 + column % 32, raw.q);
    raw.s = w.b[block * 16 + upper * 8 + column / 16 % 2 * 4 + column % 128 / 32];
    raw.d = load_u32(w.c + block * 4);
  }
  static k_fn_member void halves(k_private const Raw& raw, int column, k_shared const NoTable*,
                                 unsigned, k_private uint32_t* out) {
    const int shift = column % 128 / 32 * 2;
    const float d = k_f16_to_f32(uint16_t(raw.d)) * float(int(raw.s & 15u));
    const float m = k_f16_to_f32(uint16_t(raw.d >> 16)) * float(int(raw.s >> 4));
    const uint32_t low = k_half2(-m, d - m), high = k_half2(k_mad(2.0f, d, -m), k_mad(3.0f, d, -m));
    k_unroll for (int i = 0; i < 4; i++) {
      // A code c chooses bytes 2 c and 2 c + 1.
      const uint32_t selector = (raw.q[i] >> shift & 0x03030303u) * 0x22u + 0x10101010u;
      out[2 * i] = k_permute(low, high, selector);
      out[2 * i + 1] = k_permute(low, high, selector >> 16);
    }
  }
};

// Levels plus 128 are chosen as bytes. level * (2 s + 1) / 8 has 11 bits, so only the product with
// d rounds. 3.4 operations a weight.
template <>
struct HalfRun<CodecIQ2_XXS> {
  struct Raw {
    uint32_t q[4], d;  // two groups, of which the run is half of one
  };
  static k_fn_member void load(k_private const Planes& w, int column, k_private Raw& raw) {
    const int block = column / 256 * CodecIQ2_XXS::kStripe;
    load_words(w.a + block * 64 + column % 256 / 64 * 16, raw.q);
    raw.d = load_u16(w.b + block * 2);
  }
  static k_fn_member void halves(k_private const Raw& raw, int column,
                                 k_shared const CodecIQ2_XXS::Table* table, unsigned copy,
                                 k_private uint32_t* out) {
    const bool second = column % 64 >= 32;
    const int sub = column / 16 % 2 * 2;
    const uint32_t indices = second ? raw.q[2] : raw.q[0], signs = second ? raw.q[3] : raw.q[1];
    const uint32_t odd = uint32_t(CodecIQ2_XXS::odd(signs)) * 0x10001u + 0x64006400u;  // + 1024
    const uint32_t scale = k_half2_fma(odd, 0x30003000u, 0xd800d800u);  // (2 s + 1) / 8
    const uint32_t offset = k_half2_mul(scale, kMinus1152), d = raw.d * 0x10001u;
    k_unroll for (int t = 0; t < 2; t++) {
      const uint32_t selector = grid_selector(table, indices, signs, sub + t, copy);
      halves_of_bytes(k_permute(0x00ab9988u, 0x00556778u, selector), out + 4 * t);
      halves_of_bytes(k_permute(0x00ab9988u, 0x00556778u, selector >> 16), out + 4 * t + 2);
    }
    k_unroll for (int i = 0; i < 8; i++) out[i] =
        k_half2_mul(k_half2_fma(out[i], scale, offset), d);
  }
};

k_fn uint32_t half_power(int e) { return uint32_t(e + 15) << 10; }  // 2^e, -14 <= e <= 15

// The upper bytes of the eight magnitudes, chosen by codes. Two powers of two multiply one after
// the other, since one would not reach all scales; only the second can round.
template <>
struct HalfRun<CodecMXFP4> {
  struct Raw {
    uint32_t q[4], e;
  };
  static k_fn_member void load(k_private const Planes& w, int column, k_private Raw& raw) {
    const int block = column / 32 * CodecMXFP4::kStripe;
    load_words(w.a + block * 16, raw.q);
    raw.e = w.b[block];
  }
  static k_fn_member void halves(k_private const Raw& raw, int column, k_shared const NoTable*,
                                 unsigned, k_private uint32_t* out) {
    const int e = int(raw.e) - 127, first = max_int(-14, min_int(e, 15));
    const uint32_t nan = raw.e == 255u ? 0x7e00u : 0u;
    const uint32_t scale = half_power(first) * 0x10001u;
    const uint32_t rest = (half_power(max_int(-14, min_int(e - first, 15))) | nan) * 0x10001u;
    k_unroll for (int i = 0; i < 4; i++) {
      const uint32_t codes = raw.q[i] >> column / 16 % 2 * 4;
      const uint32_t m = codes & 0x07070707u, sign = codes << 4 & 0x80808080u;
      out[2 * i] = k_permute(0x3e3c3800u, 0x46444240u, m << 4) | (k_permute(sign, 0, 0x1404u));
      out[2 * i + 1] = k_permute(0x3e3c3800u, 0x46444240u, m >> 12) | (k_permute(sign, 0, 0x3424u));
    }
    k_unroll for (int i = 0; i < 8; i++) out[i] = k_half2_mul(k_half2_mul(out[i], scale), rest);
  }
};

}  // namespace kernels
}  // namespace narwhal
