// The vocabulary of vec_portable.h in 512-bit registers, with VNNI products and VBMI lookups.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "backend/cpu/kernels/kernels.h"

namespace narwhal::cpu {

struct Avx512 {
  static constexpr Level kLevel = Level::kAvx512;
  static constexpr int kTileRows = 6, kTilePanels = 2;
  static constexpr int kDotRows = 4, kDotOutputs = 4;
  static constexpr bool kFastRows = true;
  static constexpr bool kStreams = true;
  static constexpr bool kPairs = false;

  using F = __m512;
  using I = __m512i;
  using W = __m512i;

  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static F set1(float x) { return _mm512_set1_ps(x); }
  static F zero() { return _mm512_setzero_ps(); }
  static F add(F x, F y) { return _mm512_add_ps(x, y); }
  static F sub(F x, F y) { return _mm512_sub_ps(x, y); }
  static F mul(F x, F y) { return _mm512_mul_ps(x, y); }
  static F div(F x, F y) { return _mm512_div_ps(x, y); }
  static F fma(F x, F y, F z) { return _mm512_fmadd_ps(x, y, z); }
  static F max(F x, F y) { return _mm512_max_ps(x, y); }
  static F min(F x, F y) { return _mm512_min_ps(x, y); }
  static float sum(F x) {
    const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
  }
  static __m256i half(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static F load_f16(const void* p) { return _mm512_cvtph_ps(half(p)); }
  static F load_bf16(const void* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half(p)), 16));
  }
  static F load_e4m3(const uint8_t* p) {
    const __m256i c = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i h =
        _mm256_or_si256(_mm256_slli_epi16(_mm256_and_si256(c, _mm256_set1_epi16(0x80)), 8),
                        _mm256_slli_epi16(_mm256_and_si256(c, _mm256_set1_epi16(0x7f)), 7));
    return _mm512_mul_ps(_mm512_cvtph_ps(h), _mm512_set1_ps(256.0f));
  }

  static I iload(const void* p) { return _mm512_loadu_si512(p); }
  static void istore(void* p, I x) { _mm512_storeu_si512(p, x); }
  static I iset1(int32_t x) { return _mm512_set1_epi32(x); }
  static I iadd(I x, I y) { return _mm512_add_epi32(x, y); }
  static I isub(I x, I y) { return _mm512_sub_epi32(x, y); }
  static I imul(I x, I y) { return _mm512_mullo_epi32(x, y); }
  static I iand(I x, I y) { return _mm512_and_si512(x, y); }
  static I imax(I x, I y) { return _mm512_max_epi32(x, y); }
  template <int n>
  static I ishl(I x) {
    return _mm512_slli_epi32(x, n);
  }
  template <int n>
  static I isra(I x) {
    return _mm512_srai_epi32(x, n);
  }
  static F to_float(I x) { return _mm512_cvtepi32_ps(x); }
  static I to_int(F x) { return _mm512_cvtps_epi32(x); }
  static F as_float(I x) { return _mm512_castsi512_ps(x); }
  static I as_int(F x) { return _mm512_castps_si512(x); }
  static int32_t imax_all(I x) { return _mm512_reduce_max_epi32(x); }
  static int32_t isum(I x) { return _mm512_reduce_add_epi32(x); }
  static void store_i8(int8_t* p, I x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
  }
  static void store_i16(int16_t* p, I x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
  }

  static W wload(const void* p) { return _mm512_loadu_si512(p); }
  static I four(const void* x) {
    int32_t v;
    __builtin_memcpy(&v, x, 4);
    return _mm512_set1_epi32(v);
  }
  static I dp8(I s, W w, const void* x) { return _mm512_dpbusd_epi32(s, w, four(x)); }
  static I dp16(I s, W w, const void* x) { return _mm512_dpwssd_epi32(s, w, four(x)); }

  // Four bytes of each of 16 rows per register, 16 bytes in all; row(r) is where row r lies.
  template <class Row>
  [[gnu::always_inline]] static void columns(Row row, __m512i* out) {
    const auto at = [&](int r) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row(r)));
    };
    __m512i v[4];
    for (int j = 0; j < 4; j++) {  // rows j, j + 4, j + 8, j + 12 in the four lanes
      v[j] = _mm512_castsi128_si512(at(j));
      v[j] = _mm512_mask_broadcast_i32x4(v[j], 0x00f0, at(j + 4));
      v[j] = _mm512_mask_broadcast_i32x4(v[j], 0x0f00, at(j + 8));
      v[j] = _mm512_mask_broadcast_i32x4(v[j], 0xf000, at(j + 12));
    }
    const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]),
                  c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
  }
  static void interleave16(const uint8_t* const* rows, int64_t offset, void* out) {
    __m512i v[4];
    columns([&](int r) { return rows[r] + offset; }, v);
    for (int c = 0; c < 4; c++) _mm512_storeu_si512(static_cast<uint8_t*>(out) + 64 * c, v[c]);
  }
  static void widen(W w, void* out) {
    auto* to = static_cast<uint8_t*>(out);
    _mm512_storeu_si512(to, _mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8));
    _mm512_storeu_si512(to + 64, _mm512_srai_epi16(w, 8));
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

  // scale * level of one Q2_K block, 256 bytes, and its minima: a lookup of {0, s, 2s, 3s} per
  // sub-block.
  static void q2_k_row(const uint8_t* block, uint8_t* out, int16_t* mins) {
    const __m128i both_codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block));
    const __m128i s = _mm_and_si128(both_codes, _mm_set1_epi8(15));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(mins),
                        _mm256_srli_epi16(_mm256_cvtepu8_epi16(both_codes), 4));
    const __m512i tables =
        _mm512_mullo_epi32(_mm512_cvtepu8_epi32(s), _mm512_set1_epi32(0x03020100));
    const __m512i q = _mm512_loadu_si512(block + 16);
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    for (int o = 0; o < 4; o++) {  // 64 values: shifts 4h in the lower half, 4h + 2 in the upper
      const __m512i both =
          o < 2 ? _mm512_shuffle_i64x2(q, q, 0x44) : _mm512_shuffle_i64x2(q, q, 0xee);
      const int low = 4 * (o % 2);
      const __m512i shift = _mm512_inserti64x4(_mm512_set1_epi16(static_cast<int16_t>(low)),
                                               _mm256_set1_epi16(static_cast<int16_t>(low + 2)), 1);
      const __m512i level = _mm512_and_si512(_mm512_srlv_epi16(both, shift), _mm512_set1_epi8(3));
      const __m512i table =
          _mm512_permutexvar_epi32(_mm512_add_epi32(spread, _mm512_set1_epi32(4 * o)), tables);
      _mm512_storeu_si512(out + 64 * o, _mm512_shuffle_epi8(table, level));
    }
  }

  static __m512i lookup256(const uint8_t* table, __m512i index) {
    const auto* t = table;
    const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(t), index,
                                                 _mm512_load_si512(t + 64)),
                  high = _mm512_permutex2var_epi8(_mm512_load_si512(t + 128), index,
                                                  _mm512_load_si512(t + 192));
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high);
  }
  // One IQ2_XXS block: 256 bytes and the eight odd group scales. A byte is 64 + value, or with
  // kCodes the number of its magnitude (0 = 8, 1 = 25, 2 = 43) and 128 where it is negative.
  template <bool kCodes = false>
  static void iq2_xxs_row(const Iq2Tables& t, const uint8_t* block, uint8_t* out, int32_t* scales) {
    const __m512i q = _mm512_loadu_si512(block + 2);  // 8 x (four indices, signs and scale)
    const __m512i index = _mm512_castsi256_si512(_mm512_cvtepi64_epi32(q));
    const __m512i tails = _mm512_srli_epi64(q, 32);
    const __m256i scale = _mm256_srli_epi32(_mm512_cvtepi64_epi32(tails), 28);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(scales),
                        _mm256_add_epi32(_mm256_slli_epi32(scale, 1), _mm256_set1_epi32(1)));

    // Sign indices to bytes, seven bits each; the lookup looks at seven bits.
    const __m512i sevens =
        _mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x00000000150e0700), tails);
    const __m512i sign_bytes = _mm512_permutex2var_epi8(_mm512_load_si512(t.signs), sevens,
                                                        _mm512_load_si512(t.signs + 64));
    alignas(32) uint64_t negative[4];
    _mm256_store_si256(reinterpret_cast<__m256i*>(negative), _mm512_cvtepi64_epi32(sign_bytes));

    const __m256i c0 = _mm512_castsi512_si256(lookup256(t.codes[0], index)),
                  c1 = _mm512_castsi512_si256(lookup256(t.codes[1], index));
    const __m512i codes =
        _mm512_or_si512(_mm512_cvtepu8_epi16(c0), _mm512_slli_epi16(_mm512_cvtepu8_epi16(c1), 8));
    alignas(64) uint16_t code[32];
    _mm512_store_si512(code, codes);
    const __m512i values = _mm512_set1_epi32((64 + 43) << 16 | (64 + 25) << 8 | (64 + 8));
    for (int o = 0; o < 4; o++) {
      const __m512i eight =
          _mm512_cvtepu16_epi64(_mm_load_si128(reinterpret_cast<const __m128i*>(code + 8 * o)));
      const __m512i two_bits = _mm512_and_si512(
          _mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x0e0c0a0806040200), eight),
          _mm512_set1_epi8(3));
      const __mmask64 minus = _cvtu64_mask64(negative[o]);
      const __m512i most = _mm512_set1_epi8(static_cast<char>(128));
      const __m512i v = kCodes ? two_bits : _mm512_shuffle_epi8(values, two_bits);
      const __m512i flipped = kCodes ? _mm512_mask_add_epi8(v, minus, v, most)
                                     : _mm512_mask_sub_epi8(v, minus, most, v);
      _mm512_storeu_si512(out + 64 * o, flipped);
    }
  }
};

}  // namespace narwhal::cpu
