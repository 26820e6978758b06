// The vector vocabulary in plain loops: 16 floats (F), 16 ints (I), 64 bytes of weights (W). Every
// level has a struct of the same shape; the order of additions in sum() is part of the contract.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels/level.h"
#include "quant/f16.h"

namespace narwhal::cpu {

struct Portable {
  static constexpr Level kLevel = Level::kPortable;
  static constexpr int kTileRows = 4, kTilePanels = 1;  // of integer products
  static constexpr int kDotRows = 2, kDotOutputs = 2;   // of f32 products
  static constexpr bool kFastRows = false;              // has its own q2_k_row, iq2_xxs_row
  static constexpr bool kStreams = false;
  static constexpr bool kPairs = false;  // pairs_neon.h

  struct F {
    float v[16];
  };
  struct I {
    int32_t v[16];
  };
  struct W {
    int8_t v[64];
  };

  template <class R, class Op>
  static R make(Op op) {
    R r;
    for (int i = 0; i < 16; i++) r.v[i] = op(i);
    return r;
  }

  static F load(const float* p) {
    F r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
  static void store(float* p, F a) { std::memcpy(p, a.v, sizeof a.v); }
  static F set1(float x) {
    return make<F>([&](int) { return x; });
  }
  static F zero() { return set1(0); }
  static F add(F a, F b) {
    return make<F>([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F sub(F a, F b) {
    return make<F>([&](int i) { return a.v[i] - b.v[i]; });
  }
  static F mul(F a, F b) {
    return make<F>([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F div(F a, F b) {
    return make<F>([&](int i) { return a.v[i] / b.v[i]; });
  }
  static F fma(F a, F b, F c) {
    return make<F>([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static F max(F a, F b) {  // b where either is NaN, as x86 has it
    return make<F>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F min(F a, F b) {
    return make<F>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static float sum(F a) {
    float s[8];
    for (int i = 0; i < 8; i++) s[i] = a.v[i] + a.v[i + 8];
    for (int i = 0; i < 4; i++) s[i] += s[i + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
  }
  static F load_f16(const void* p) {
    uint16_t h[16];
    std::memcpy(h, p, sizeof h);
    return make<F>([&](int i) { return quant::f16_to_f32(h[i]); });
  }
  static F load_bf16(const void* p) {
    uint16_t h[16];
    std::memcpy(h, p, sizeof h);
    return make<F>([&](int i) { return quant::bf16_to_f32(h[i]); });
  }
  // E4M3 codes other than NaN, exactly: as halves with the exponent bias of E4M3.
  static F load_e4m3(const uint8_t* p) {
    return make<F>([&](int i) {
      const auto half = static_cast<uint16_t>((p[i] & 0x80) << 8 | (p[i] & 0x7f) << 7);
      return quant::f16_to_f32(half) * 256.0f;
    });
  }

  static I iload(const void* p) {
    I r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
  static void istore(void* p, I a) { std::memcpy(p, a.v, sizeof a.v); }
  static I iset1(int32_t x) {
    return make<I>([&](int) { return x; });
  }
  static I iadd(I a, I b) {
    return make<I>([&](int i) { return a.v[i] + b.v[i]; });
  }
  static I isub(I a, I b) {
    return make<I>([&](int i) { return a.v[i] - b.v[i]; });
  }
  static I imul(I a, I b) {
    return make<I>([&](int i) { return a.v[i] * b.v[i]; });
  }
  static I iand(I a, I b) {
    return make<I>([&](int i) { return a.v[i] & b.v[i]; });
  }
  static I imax(I a, I b) {
    return make<I>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  template <int n>
  static I ishl(I a) {
    return make<I>([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << n); });
  }
  template <int n>
  static I isra(I a) {
    return make<I>([&](int i) { return a.v[i] >> n; });
  }
  static F to_float(I a) {
    return make<F>([&](int i) { return static_cast<float>(a.v[i]); });
  }
  // Nearest, ties to even, for |a| < 2^22.
  static I to_int(F a) {
    return make<I>([&](int i) {
      const int32_t bits = std::bit_cast<int32_t>(a.v[i] + 0x1.8p23f);
      return (bits & 0x007fffff) - 0x00400000;
    });
  }
  static F as_float(I a) { return std::bit_cast<F>(a); }
  static I as_int(F a) { return std::bit_cast<I>(a); }
  static int32_t imax_all(I a) {
    int32_t top = a.v[0];
    for (int i = 1; i < 16; i++) top = a.v[i] > top ? a.v[i] : top;
    return top;
  }
  static int32_t isum(I a) {
    int32_t s = 0;
    for (int i = 0; i < 16; i++) s += a.v[i];
    return s;
  }
  static void store_i8(int8_t* p, I a) {
    for (int i = 0; i < 16; i++) p[i] = static_cast<int8_t>(a.v[i]);
  }
  static void store_i16(int16_t* p, I a) {
    for (int i = 0; i < 16; i++) p[i] = static_cast<int16_t>(a.v[i]);
  }

  // a[l] + sum of w[4l + i] * x[i] over i < 4; w in 0..127.
  static W wload(const void* p) {
    W r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
  static I dp8(I a, W w, const void* x) {
    int8_t b[4];
    std::memcpy(b, x, 4);
    return make<I>([&](int l) {
      const int8_t* v = w.v + 4 * l;
      return a.v[l] + v[0] * b[0] + v[1] * b[1] + v[2] * b[2] + v[3] * b[3];
    });
  }
  // a[l] + w[2l] * x[0] + w[2l + 1] * x[1] over 16-bit values.
  static I dp16(I a, W w, const void* x) {
    int16_t b[2], v[32];
    std::memcpy(b, x, 4);
    std::memcpy(v, w.v, 64);
    return make<I>([&](int l) { return a.v[l] + v[2 * l] * b[0] + v[2 * l + 1] * b[1]; });
  }

  // out[j][l] = dword j of the 16 bytes at rows[l] + offset, j < 4.
  static void interleave16(const uint8_t* const* rows, int64_t offset, void* out) {
    for (int j = 0; j < 4; j++)
      for (int l = 0; l < 16; l++)
        std::memcpy(static_cast<uint8_t*>(out) + 64 * j + 4 * l, rows[l] + offset + 4 * j, 4);
  }
  // Signed bytes b0 b1 b2 b3 of every dword to the 16-bit pairs (b0, b2) and (b1, b3).
  static void widen(W w, void* out) {
    int16_t v[2][32];
    for (int l = 0; l < 16; l++)
      for (int i = 0; i < 4; i++) v[i % 2][2 * l + i / 2] = int16_t{w.v[4 * l + i]};
    std::memcpy(out, v, sizeof v);
  }
  // 32 bytes of a table of 16: the low nibbles of 16 bytes, then the high ones.
  static void lookup_nibbles(const int8_t* table, const uint8_t* p, int8_t* out) {
    for (int j = 0; j < 16; j++) {
      out[j] = table[p[j] & 15];
      out[16 + j] = table[p[j] >> 4];
    }
  }
  static void prefetch(const void* p) { __builtin_prefetch(p); }
};

}  // namespace narwhal::cpu
