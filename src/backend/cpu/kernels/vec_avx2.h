// The vocabulary of vec_portable.h in pairs of 256-bit registers.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "backend/cpu/kernels/level.h"

namespace narwhal::cpu {

struct Avx2 {
  static constexpr Level kLevel = Level::kAvx2;
  static constexpr int kTileRows = 3, kTilePanels = 1;
  static constexpr int kDotRows = 3, kDotOutputs = 2;
  static constexpr bool kFastRows = false;
  static constexpr bool kStreams = false;
  static constexpr bool kPairs = false;

  struct F {
    __m256 a, b;
  };
  struct I {
    __m256i a, b;
  };
  struct W {
    __m256i a, b;
  };

  static F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void store(float* p, F x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
  }
  static F set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static F add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  static F sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  static F mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  static F div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
  static F fma(F x, F y, F z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  static F max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
  static F min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
  static float sum(F x) {
    const __m256 s8 = _mm256_add_ps(x.a, x.b);
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
  }
  static F load_f16(const void* p) {
    const auto* h = static_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
  }
  static __m256 widen_bf16(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
  }
  static F load_bf16(const void* p) {
    const auto* h = static_cast<const __m128i*>(p);
    return {widen_bf16(_mm_loadu_si128(h)), widen_bf16(_mm_loadu_si128(h + 1))};
  }
  static F load_e4m3(const uint8_t* p) {
    const __m256i c = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i half =
        _mm256_or_si256(_mm256_slli_epi16(_mm256_and_si256(c, _mm256_set1_epi16(0x80)), 8),
                        _mm256_slli_epi16(_mm256_and_si256(c, _mm256_set1_epi16(0x7f)), 7));
    return mul({_mm256_cvtph_ps(_mm256_castsi256_si128(half)),
                _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1))},
               set1(256.0f));
  }

  static I iload(const void* p) {
    const auto* v = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
  }
  static void istore(void* p, I x) {
    auto* v = static_cast<__m256i*>(p);
    _mm256_storeu_si256(v, x.a);
    _mm256_storeu_si256(v + 1, x.b);
  }
  static I iset1(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  static I iadd(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
  static I isub(I x, I y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
  static I imul(I x, I y) { return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
  static I iand(I x, I y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
  static I imax(I x, I y) { return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
  template <int n>
  static I ishl(I x) {
    return {_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)};
  }
  template <int n>
  static I isra(I x) {
    return {_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)};
  }
  static F to_float(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
  static I to_int(F x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
  static F as_float(I x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
  static I as_int(F x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
  static int32_t imax_all(I x) {
    const __m256i m8 = _mm256_max_epi32(x.a, x.b);
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(m8), _mm256_extracti128_si256(m8, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
  }
  static int32_t isum(I x) {
    const __m256i s8 = _mm256_add_epi32(x.a, x.b);
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(s8), _mm256_extracti128_si256(s8, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
  }
  static __m256i words(I x) { return _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8); }
  static void store_i8(int8_t* p, I x) {
    const __m256i w = words(x);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
  }
  static void store_i16(int16_t* p, I x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), words(x));
  }

  static W wload(const void* p) {
    const auto* v = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
  }
  static __m256i four(const void* x) {
    int32_t v;
    __builtin_memcpy(&v, x, 4);
    return _mm256_set1_epi32(v);
  }
  // Pairs fit 16 bits: 2 * 107 * 127 at most.
  static I dp8(I s, W w, const void* x) {
    const __m256i v = four(x), ones = _mm256_set1_epi16(1);
    return {_mm256_add_epi32(s.a, _mm256_madd_epi16(_mm256_maddubs_epi16(w.a, v), ones)),
            _mm256_add_epi32(s.b, _mm256_madd_epi16(_mm256_maddubs_epi16(w.b, v), ones))};
  }
  static I dp16(I s, W w, const void* x) {
    const __m256i v = four(x);
    return {_mm256_add_epi32(s.a, _mm256_madd_epi16(w.a, v)),
            _mm256_add_epi32(s.b, _mm256_madd_epi16(w.b, v))};
  }

  static void interleave16(const uint8_t* const* rows, int64_t offset, void* out) {
    auto* to = static_cast<__m256i*>(out);
    for (int half = 0; half < 2; half++) {
      const uint8_t* const* r = rows + 8 * half;
      __m256i v[4];
      for (int j = 0; j < 4; j++)  // rows j and j + 4 in the two lanes
        v[j] = _mm256_inserti128_si256(
            _mm256_castsi128_si256(
                _mm_loadu_si128(reinterpret_cast<const __m128i*>(r[j] + offset))),
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(r[j + 4] + offset)), 1);
      const __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpackhi_epi32(v[0], v[1]),
                    c = _mm256_unpacklo_epi32(v[2], v[3]), d = _mm256_unpackhi_epi32(v[2], v[3]);
      _mm256_storeu_si256(to + half, _mm256_unpacklo_epi64(a, c));
      _mm256_storeu_si256(to + 2 + half, _mm256_unpackhi_epi64(a, c));
      _mm256_storeu_si256(to + 4 + half, _mm256_unpacklo_epi64(b, d));
      _mm256_storeu_si256(to + 6 + half, _mm256_unpackhi_epi64(b, d));
    }
  }
  static void widen(W w, void* out) {
    auto* to = static_cast<__m256i*>(out);
    _mm256_storeu_si256(to, _mm256_srai_epi16(_mm256_slli_epi16(w.a, 8), 8));
    _mm256_storeu_si256(to + 1, _mm256_srai_epi16(_mm256_slli_epi16(w.b, 8), 8));
    _mm256_storeu_si256(to + 2, _mm256_srai_epi16(w.a, 8));
    _mm256_storeu_si256(to + 3, _mm256_srai_epi16(w.b, 8));
  }
  static void lookup_nibbles(const int8_t* table, const uint8_t* p, int8_t* out) {
    const __m128i t = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table)),
                  low = _mm_set1_epi8(15);
    const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    auto* to = reinterpret_cast<__m128i*>(out);
    _mm_storeu_si128(to, _mm_shuffle_epi8(t, _mm_and_si128(both, low)));
    _mm_storeu_si128(to + 1, _mm_shuffle_epi8(t, _mm_and_si128(_mm_srli_epi16(both, 4), low)));
  }
  static void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
};

}  // namespace narwhal::cpu
