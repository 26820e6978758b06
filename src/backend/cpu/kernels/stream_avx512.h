// Products of a few activation rows in 512-bit registers, with weights read in the order in which
// they lie in memory.
//
// body_matmul.h unpacks 16 rows side by side: 16 streams of addresses, each too short for the
// hardware's prefetcher, and a trip through the first-level cache. Here 16 blocks that follow each
// other, of one row or of several, become one register of 16 integer sums and, with their scales,
// of 16 products. The products of 16 rows are kept, and then added up with a lane per row and
// blocks ascending: the same operations in the same order as there, so the same bits.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels/kernels.h"

namespace narwhal::cpu {

template <class V>
struct Stream {
  using F = __m512;
  using Z = __m512i;

  static constexpr int kMaxRows = 4;       // activation rows that share an unpacked block
  static constexpr int kTurns = 2;         // streams of weights that take turns
  static constexpr int64_t kGroup = 16;    // blocks at a time
  static constexpr int64_t kAhead = 1024;  // bytes that are asked for before they are needed

  // An activation row as the loops below read it: at least 16 blocks, repeated where there are
  // fewer, so that 16 blocks of weights meet 16 blocks in a row.
  struct Act {
    int8_t* q;      // in the order of the weights' registers
    float* scale;   // per block
    uint8_t* mins;  // sums of activations for minima as two planes, v = 128 high + low, of
                    // interleaved groups of 16 blocks
  };

  static Z load(const void* p) { return _mm512_loadu_si512(p); }
  static __m256i load256(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  static __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

  // Sums of lanes in steps. join2: per 128 bits a, b, a, b. join4: a, b, c, d. join16: the totals.
  static Z join2(Z a, Z b) {
    return _mm512_add_epi32(_mm512_mask_blend_epi32(0xaaaa, a, b), _mm512_shrdi_epi64(a, b, 32));
  }
  static Z join4(Z ab, Z cd) {
    return _mm512_add_epi32(_mm512_mask_blend_epi64(0xaa, ab, cd), _mm512_alignr_epi8(cd, ab, 8));
  }
  static Z halves(Z a, Z b) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
  }
  static Z join16(const Z* quads) {
    return halves(halves(quads[0], quads[1]), halves(quads[2], quads[3]));
  }

  // Totals of 16 blocks; pair(i, out) gives blocks 2i and 2i + 1 for every row as join2 does.
  template <int m, int size, class Pair>
  static void totals(const uint8_t* p, Pair pair, Z* out) {
    constexpr int kLines = (2 * size + 32) / 64;  // of a pair, about
    const auto ask = [p](int i) {
      for (int line = 0; line < kLines; line++) V::prefetch(p + kAhead + 2 * size * i + 64 * line);
    };
    Z quads[m][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      Z a[m], b[m];
      ask(2 * i);
      pair(2 * i, a);
      ask(2 * i + 1);
      pair(2 * i + 1, b);
      for (int r = 0; r < m; r++) quads[r][i] = join4(a[r], b[r]);
    }
    for (int r = 0; r < m; r++) out[r] = join16(quads[r]);
  }
  // The same from single blocks.
  template <int m, int size, class Block>
  static void block_totals(const uint8_t* p, Block block, Z* out) {
    totals<m, size>(
        p,
        [&](int i, Z* joined) {
          Z a[m], b[m];
          block(2 * i, a);
          block(2 * i + 1, b);
          for (int r = 0; r < m; r++) joined[r] = join2(a[r], b[r]);
        },
        out);
  }

  // The first four bytes of 16 blocks that are `size` bytes apart.
  template <int size>
  static Z heads(const uint8_t* p) {
    const Z lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_i32gather_epi32(_mm512_mullo_epi32(lanes, _mm512_set1_epi32(size)), p, 1);
  }
  static F low_half(Z v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
  static F high_half(Z v) { return low_half(_mm512_srli_epi32(v, 16)); }

  // 16 sums of activations to planes.
  static void split(__m256i sums, __m128i* high, __m128i* low) {
    *high = _mm256_cvtepi16_epi8(_mm256_srai_epi16(sums, 7));
    *low = _mm256_cvtepi16_epi8(_mm256_and_si256(sums, _mm256_set1_epi16(127)));
  }

  // 32 weights as bytes against 16-bit activations.
  template <int m>
  static void dot32(__m256i w, const Act* acts, int64_t block, Z* out) {
    const Z wide = _mm512_cvtepi8_epi16(w);
    for (int r = 0; r < m; r++)
      out[r] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), wide, load(acts[r].q + 64 * block));
  }
  // The middle two of every four values swapped back.
  static void prepare32(const std::byte* q, int8_t* out) {
    const Z order = _mm512_set4_epi32(0x0f0e0b0a, 0x0d0c0908, 0x07060302, 0x05040100);
    _mm512_store_si512(out, _mm512_shuffle_epi8(load(q), order));
  }

  struct Q8_0 {
    static constexpr int kBytes = 34, kInputs = 32, kMins = 0;
    static void prepare(const std::byte* q, int8_t* out) { prepare32(q, out); }
    template <int m>
    static void products(const uint8_t* p, const Act* acts, int64_t block, F* out) {
      Z sums[m];
      block_totals<m, kBytes>(
          p, [&](int k, Z* s) { dot32<m>(load256(p + kBytes * k + 2), acts, block + k, s); }, sums);
      const F d = low_half(heads<kBytes>(p));
      for (int r = 0; r < m; r++)
        out[r] = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r]),
                               _mm512_mul_ps(d, _mm512_loadu_ps(acts[r].scale + block)));
    }
  };

  // Twice the FP4 value under half the scale.
  struct Mxfp4 {
    static constexpr int kBytes = 17, kInputs = 32, kMins = 0;
    static void prepare(const std::byte* q, int8_t* out) { prepare32(q, out); }
    template <int m>
    static void products(const uint8_t* p, const Act* acts, int64_t block, F* out) {
      const __m256i twice = _mm256_broadcastsi128_si256(
          _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
      const __m256i shift = _mm256_setr_epi64x(0, 0, 4, 4), low = _mm256_set1_epi8(15);
      Z sums[m];
      block_totals<m, kBytes>(
          p,
          [&](int k, Z* s) {
            const __m256i both = _mm256_broadcastsi128_si256(load128(p + kBytes * k + 1));
            const __m256i code = _mm256_and_si256(_mm256_srlv_epi64(both, shift), low);
            dot32<m>(_mm256_shuffle_epi8(twice, code), acts, block + k, s);
          },
          sums);
      // 2^(e - 128), subnormal for e = 0 and 1; NaN for 255.
      const Z e = _mm512_and_si512(heads<kBytes>(p), _mm512_set1_epi32(255));
      const Z normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
      Z bits = _mm512_mask_sllv_epi32(normal, _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)),
                                      _mm512_set1_epi32(0x00200000), e);
      bits = _mm512_mask_mov_epi32(bits, _mm512_cmpeq_epi32_mask(e, _mm512_set1_epi32(255)),
                                   _mm512_set1_epi32(0x7fc00000));
      const F d = _mm512_castsi512_ps(bits);
      for (int r = 0; r < m; r++)
        out[r] = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r]),
                               _mm512_mul_ps(d, _mm512_loadu_ps(acts[r].scale + block)));
    }
  };

  // d * sums - dmin * minima with the activations' scales.
  template <int m>
  static void scaled(const Act* acts, int64_t block, F d, F dmin, const Z* sums, const Z* minima,
                     F* out) {
    for (int r = 0; r < m; r++) {
      const F dx = _mm512_loadu_ps(acts[r].scale + block);
      out[r] = _mm512_sub_ps(_mm512_mul_ps(_mm512_mul_ps(dx, d), _mm512_cvtepi32_ps(sums[r])),
                             _mm512_mul_ps(_mm512_mul_ps(dx, dmin), _mm512_cvtepi32_ps(minima[r])));
    }
  }
  // mins: n registers with four bytes of each of 16 blocks.
  template <int m, int n>
  static void minima(const Z* mins, const Act* acts, int64_t block, Z* out) {
    for (int r = 0; r < m; r++) {
      const uint8_t* planes = acts[r].mins + block / kGroup * (128 * n);
      Z high = _mm512_setzero_si512(), low = high;
      for (int c = 0; c < n; c++) {
        high = _mm512_dpbusd_epi32(high, mins[c], load(planes + 128 * c));
        low = _mm512_dpbusd_epi32(low, mins[c], load(planes + 128 * c + 64));
      }
      out[r] = _mm512_add_epi32(_mm512_slli_epi32(high, 7), low);
    }
  }
  // Two products of a level of 2 or 4 bits and a byte fit 16 bits, so that a group scale is
  // multiplied and added in one step. Selects byte `at` of 16 as two 16-bit scales.
  static __m128i select(int at) { return _mm_set1_epi32(at * 0x00010001 + INT32_MIN + 0x8000); }

  struct Q2_K {
    static constexpr int kBytes = 84, kInputs = 256, kMins = 16;
    // Shift 2s: values 32 s .. 32 s + 31 of both halves.
    static void prepare(const std::byte* q, int8_t* out) {
      for (int s = 0; s < 4; s++) {
        std::memcpy(out + 64 * s, q + 32 * s, 32);
        std::memcpy(out + 64 * s + 32, q + 128 + 32 * s, 32);
      }
    }
    template <int m>
    static void products(const uint8_t* p, const Act* acts, int64_t block, F* out) {
      const Z zero = _mm512_setzero_si512(), three = _mm512_set1_epi8(3);
      // Scale bytes 2s, 2s + 1, 8 + 2s, 9 + 2s in the quarters.
      const Z first =
          _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_setr_m128i(select(0), select(1))),
                             _mm256_setr_m128i(select(8), select(9)), 1);
      Z sums[m], mins[4], least[m];
      block_totals<m, kBytes>(
          p,
          [&](int k, Z* s) {
            const uint8_t* at = p + kBytes * k;
            const Z scale =
                _mm512_and_si512(_mm512_broadcast_i32x4(load128(at)), _mm512_set1_epi8(15));
            const Z q = load(at + 16);
            for (int r = 0; r < m; r++) s[r] = zero;
#pragma GCC unroll 4
            for (int h = 0; h < 4; h++) {
              const Z level = _mm512_and_si512(_mm512_srli_epi16(q, 2 * h), three);
              const Z scales =
                  _mm512_shuffle_epi8(scale, _mm512_add_epi16(first, _mm512_set1_epi16(2 * h)));
              for (int r = 0; r < m; r++) {
                const Z two =
                    _mm512_maddubs_epi16(level, load(acts[r].q + 256 * (block + k) + 64 * h));
                s[r] = _mm512_dpwssd_epi32(s[r], two, scales);
              }
            }
          },
          sums);
      V::columns([&](int k) { return p + kBytes * k; }, mins);
      for (Z& v : mins) v = _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(15));
      minima<m, 4>(mins, acts, block, least);
      const Z d = heads<kBytes>(p + 80);
      scaled<m>(acts, block, low_half(d), high_half(d), sums, least, out);
    }
  };

  struct Q4_K {
    static constexpr int kBytes = 144, kInputs = 256, kMins = 8;
    // Low nibbles of 64 bytes: values 0..31 and 64..95 of 128; high nibbles: the others.
    static void prepare(const std::byte* q, int8_t* out) {
      static constexpr int kOrder[8] = {0, 2, 1, 3, 4, 6, 5, 7};
      for (int s = 0; s < 8; s++) std::memcpy(out + 32 * s, q + 32 * kOrder[s], 32);
    }
    template <int m>
    static void products(const uint8_t* p, const Act* acts, int64_t block, F* out) {
      const Z zero = _mm512_setzero_si512(), nibble = _mm512_set1_epi8(15);
      Z head[4];  // d and dmin, then twelve bytes of scales and minima
      V::columns([&](int k) { return p + kBytes * k; }, head);
      const Z six = _mm512_set1_epi8(63), top = _mm512_set1_epi8(0x30);
      alignas(64) uint8_t scale[2][kGroup][4];
      _mm512_store_si512(scale[0], _mm512_and_si512(head[1], six));
      _mm512_store_si512(scale[1],
                         _mm512_or_si512(_mm512_and_si512(head[3], nibble),
                                         _mm512_and_si512(_mm512_srli_epi16(head[1], 2), top)));
      const Z mins[2] = {_mm512_and_si512(head[2], six),
                         _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(head[3], 4), nibble),
                                         _mm512_and_si512(_mm512_srli_epi16(head[2], 2), top))};
      // Byte 0 in the lower half and byte 2 in the upper; 1 and 3.
      const Z even = _mm512_inserti64x4(_mm512_broadcast_i32x4(select(0)),
                                        _mm256_broadcastsi128_si256(select(2)), 1);
      const Z odd = _mm512_add_epi16(even, _mm512_set1_epi16(1));
      Z sums[m], least[m];
      block_totals<m, kBytes>(
          p,
          [&](int k, Z* s) {
            for (int r = 0; r < m; r++) s[r] = zero;
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
              int32_t four_scales;
              std::memcpy(&four_scales, scale[h][k], 4);
              const Z all = _mm512_set1_epi32(four_scales);
              const Z q = load(p + kBytes * k + 16 + 64 * h);
              const Z low = _mm512_and_si512(q, nibble),
                      high = _mm512_and_si512(_mm512_srli_epi16(q, 4), nibble);
              const Z low_scale = _mm512_shuffle_epi8(all, even),
                      high_scale = _mm512_shuffle_epi8(all, odd);
              for (int r = 0; r < m; r++) {
                const int8_t* x = acts[r].q + 256 * (block + k) + 128 * h;
                s[r] = _mm512_dpwssd_epi32(s[r], _mm512_maddubs_epi16(low, load(x)), low_scale);
                s[r] =
                    _mm512_dpwssd_epi32(s[r], _mm512_maddubs_epi16(high, load(x + 64)), high_scale);
              }
            }
          },
          sums);
      minima<m, 2>(mins, acts, block, least);
      scaled<m>(acts, block, low_half(head[0]), high_half(head[0]), sums, least, out);
    }
  };

  // Sub-vector j of all eight groups in register j. Two blocks share the codebook lookups.
  struct Iq2Xxs {
    static constexpr int kBytes = 66, kInputs = 256, kMins = 0;
    static void prepare(const std::byte* q, int8_t* out) {
      for (int j = 0; j < 4; j++)
        for (int g = 0; g < 8; g++) std::memcpy(out + 64 * j + 8 * g, q + 32 * g + 8 * j, 8);
    }

    // The 256 entries of one half of the codebook.
    struct Codes {
      Z part[4];
      explicit Codes(const uint8_t* t) {
        for (int i = 0; i < 4; i++) part[i] = load(t + 64 * i);
      }
      // bit6 and bit7 of every index as masks.
      Z at(Z index, __mmask64 bit6, __mmask64 bit7, __mmask64 both) const {
        Z v = _mm512_permutexvar_epi8(index, part[0]);
        v = _mm512_mask_permutexvar_epi8(v, bit6, index, part[1]);
        v = _mm512_mask_permutexvar_epi8(v, bit7, index, part[2]);
        return _mm512_mask_permutexvar_epi8(v, both, index, part[3]);
      }
    };

    // What 16 blocks say, before it meets activations.
    struct alignas(64) Unpacked {
      Z codes[kGroup];  // per group of 32 eight 2-bit codes of four sub-vectors: elements
                        // 0..3 in the lower half, 4..7 in the upper
      uint64_t negative[kGroup][4];  // signs of sub-vector j of all groups
      Z scales[kGroup / 2];          // of two blocks, alternating
    };

    // A pass of its own: lookups wait for each other, so that little of the next block would
    // start before the products of this one.
    static void unpack(const uint8_t* p, Unpacked* out) {
      const Iq2Tables& t = iq2_tables();
      const Codes first(t.codes[0]), second(t.codes[1]);
      const Z seven_bits = _mm512_set1_epi64(0x352e2720150e0700);
      // The eighth bit is the parity of the other seven.
      const Z parity = _mm512_set1_epi64(0x010204081020407f);
      // Bytes j of all groups of the one block, then of the other.
      constexpr int64_t kAll = 0x0101010101010101;
      const Z by_vector = _mm512_add_epi8(
          _mm512_set1_epi64(0x3830282018100800),
          _mm512_setr_epi64(0, kAll, 2 * kAll, 3 * kAll, 4 * kAll, 5 * kAll, 6 * kAll, 7 * kAll));
#pragma GCC unroll 4
      for (int i = 0; i < kGroup; i += 2, p += 2 * kBytes) {
        const Z q0 = load(p + 2), q1 = load(p + kBytes + 2);
        const Z index = _mm512_mask_blend_epi32(0xaaaa, q0, _mm512_slli_epi64(q1, 32));
        const Z tails = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(q0, 32), q1);
        const __mmask64 bit7 = _mm512_movepi8_mask(index),
                        bit6 = _mm512_movepi8_mask(_mm512_add_epi8(index, index)),
                        both = _kand_mask64(bit6, bit7);
        const Z c0 = first.at(index, bit6, bit7, both), c1 = second.at(index, bit6, bit7, both);
        out->codes[i] = _mm512_mask_blend_epi32(0xaaaa, c0, _mm512_slli_epi64(c1, 32));
        out->codes[i + 1] = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(c0, 32), c1);
        const Z signs = _mm512_gf2p8affine_epi64_epi8(
            _mm512_multishift_epi64_epi8(seven_bits, tails), parity, 0);
        _mm512_store_si512(out->negative[i], _mm512_permutexvar_epi8(by_vector, signs));
        out->scales[i / 2] = _mm512_or_si512(_mm512_srli_epi32(tails, 27), _mm512_set1_epi32(1));
      }
    }

    template <int m>
    static void products(const uint8_t* p, const Act* acts, int64_t b, F* out) {
      Unpacked w;
      unpack(p, &w);
      const Z zero = _mm512_setzero_si512();
      const Z fields = _mm512_set1_epi64(0x2624222006040200);
      // Over bits: 8 + 17 (low bit of the code) + 35 (high bit), whatever lies above.
      const Z levels = _mm512_set1_epi64(0x0302000001020000);
      const auto block = [&](int k, Z* s) {
        const Z codes = load(&w.codes[k]);
        for (int r = 0; r < m; r++) s[r] = zero;
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
          const Z at = _mm512_add_epi8(fields, _mm512_set1_epi8(static_cast<char>(8 * j)));
          const Z value =
              _mm512_gf2p8affine_epi64_epi8(_mm512_multishift_epi64_epi8(at, codes), levels, 8);
          const __mmask64 negative = _cvtu64_mask64(w.negative[k][j]);
          for (int r = 0; r < m; r++) {
            const Z x = load(acts[r].q + 256 * (b + k) + 64 * j);
            s[r] = _mm512_dpbusd_epi32(s[r], value, _mm512_mask_sub_epi8(x, negative, zero, x));
          }
        }
      };
      Z sums[m];
      totals<m, kBytes>(
          p,
          [&](int i, Z* joined) {
            Z even[m], odd[m];
            block(2 * i, even);
            block(2 * i + 1, odd);
            for (int r = 0; r < m; r++)
              joined[r] = _mm512_mullo_epi32(join2(even[r], odd[r]), w.scales[i]);
          },
          sums);
      const F d = _mm512_mul_ps(low_half(heads<kBytes>(p)), _mm512_set1_ps(0.125f));
      for (int r = 0; r < m; r++)
        out[r] = _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(acts[r].scale + b), d),
                               _mm512_cvtepi32_ps(sums[r]));
    }
  };

  // Sums of activations of blocks [0, n) to planes, 16 blocks a group.
  template <class Format>
  static void prepare_mins(const std::byte* act, const ActLayout& a, int64_t n_blocks, int64_t n,
                           uint8_t* out) {
    constexpr int kCount = Format::kMins;
    alignas(64) uint8_t high[kGroup][16], low[kGroup][16];
    for (int64_t b = 0; b < n; b += kGroup) {
      for (int64_t k = 0; k < kGroup; k++) {
        const int64_t of = (b + k) % n_blocks;
        const std::byte* sums = act + (kCount == 16 ? a.sum16 : a.sum32) + 2 * kCount * of;
        __m128i h, l;
        split(kCount == 16 ? load256(sums) : _mm256_castsi128_si256(load128(sums)), &h, &l);
        _mm_store_si128(reinterpret_cast<__m128i*>(high[k]), h);
        _mm_store_si128(reinterpret_cast<__m128i*>(low[k]), l);
      }
      Z h[4], l[4];
      V::columns([&](int k) { return high[k]; }, h);
      V::columns([&](int k) { return low[k]; }, l);
      for (int c = 0; c < kCount / 4; c++) {
        _mm512_store_si512(out + 128 * c, h[c]);
        _mm512_store_si512(out + 128 * c + 64, l[c]);
      }
      out += 32 * kCount;
    }
  }

  static int64_t period(int64_t n_blocks) { return n_blocks < kGroup ? kGroup : n_blocks; }

  template <class Format>
  static Act prepare(const std::byte* act, const ActLayout& a, int64_t n_blocks,
                     std::byte*& memory) {
    const int64_t n = period(n_blocks), q_bytes = Format::kInputs == 32 ? 64 : 256;
    const auto take = [&](int64_t n_bytes) {
      std::byte* p = memory;
      memory += (n_bytes + 63) / 64 * 64;
      return p;
    };
    const Act out = {reinterpret_cast<int8_t*>(take(n * q_bytes)),
                     reinterpret_cast<float*>(take(n * 4)),
                     reinterpret_cast<uint8_t*>(take(n * 2 * Format::kMins))};
    for (int64_t b = 0; b < n; b++)
      Format::prepare(act + b % n_blocks * q_bytes, out.q + b * q_bytes);
    for (int64_t b = 0; b < n; b += n_blocks)
      std::memcpy(out.scale + b, act + a.scale, n_blocks * 4);
    if constexpr (Format::kMins > 0) prepare_mins<Format>(act, a, n_blocks, n, out.mins);
    return out;
  }

  // products [16][n_blocks] to 16 sums, blocks ascending.
  static F add_up(const float* products, int64_t n_blocks) {
    F sum = _mm512_setzero_ps();
    for (int64_t b = 0; b < n_blocks; b += 4) {
      Z columns[4];
      V::columns([&](int o) { return products + o * n_blocks + b; }, columns);
      for (const Z& c : columns) sum = _mm512_add_ps(sum, _mm512_castsi512_ps(c));
    }
    return sum;
  }

  // Outputs [begin + s * step, begin + s * step + n) for every stream s, n a multiple of 16.
  // Streams take turns, so that one waits for a new page while the other has its own.
  template <class Format, int m, int n_streams>
  static void streams(const MatmulJob& job, const Act* acts, int first, int64_t begin, int64_t step,
                      int64_t n, float* products) {
    const int64_t n_blocks = job.w.n_in / Format::kInputs, wrap = period(n_blocks);
    const int64_t count = kLanes * n_blocks;
    const uint8_t* p[n_streams];
    for (int s = 0; s < n_streams; s++)
      p[s] = reinterpret_cast<const uint8_t*>(job.w.row(begin + s * step));
    for (int64_t o = begin; o < begin + n; o += kLanes) {
      int64_t block = 0;
      for (int64_t i = 0; i < count; i += kGroup) {
        for (int s = 0; s < n_streams; s++) {
          F out[m];
          Format::template products<m>(p[s], acts, block, out);
          for (int r = 0; r < m; r++) _mm512_store_ps(products + (s * m + r) * count + i, out[r]);
          p[s] += kGroup * Format::kBytes;
        }
        block = block + kGroup == wrap ? 0 : block + kGroup;
      }
      for (int s = 0; s < n_streams; s++)
        for (int r = 0; r < m; r++) {
          float* y = job.out(first + r) + o + s * step;
          const F sum = add_up(products + (s * m + r) * count, n_blocks);
          _mm512_storeu_ps(y, job.accumulate ? _mm512_add_ps(_mm512_loadu_ps(y), sum) : sum);
        }
    }
  }

  // Rows [first, first + m) of a job, outputs [begin, end), a multiple of 16 apart.
  template <class Format, int m>
  static void rows(const MatmulJob& job, int first, int64_t begin, int64_t end, std::byte* memory) {
    const ActLayout a(job.kind, job.w.n_in, /*planes=*/false);
    const int64_t n_blocks = job.w.n_in / Format::kInputs;
    Act acts[m];
    for (int r = 0; r < m; r++) acts[r] = prepare<Format>(job.act(first + r), a, n_blocks, memory);
    auto* products = reinterpret_cast<float*>(memory);  // [kTurns][m][16][n_blocks]
    const int64_t each = (end - begin) / (kTurns * kLanes) * kLanes;
    streams<Format, m, kTurns>(job, acts, first, begin, each, each, products);
    begin += kTurns * each;
    streams<Format, m, 1>(job, acts, first, begin, 0, end - begin, products);
  }

  template <class Format>
  static void all_rows(const MatmulJob& job, int64_t begin, int64_t end, std::byte* memory) {
    int r = 0;
    for (; r + 4 <= job.n; r += 4) rows<Format, 4>(job, r, begin, end, memory);
    for (; r + 2 <= job.n; r += 2) rows<Format, 2>(job, r, begin, end, memory);
    for (; r < job.n; r++) rows<Format, 1>(job, r, begin, end, memory);
  }

  // Whether a job is one for here.
  static bool takes(const MatmulJob& job) {
    if (job.n > kMaxRows || job.kind == ActKind::kF32) return false;
    const int64_t n_blocks = job.w.n_in / (job.kind == ActKind::kInt16 ? 32 : 256);
    return n_blocks % kGroup == 0 || n_blocks == 4 || n_blocks == 8;
  }

  // Outputs [begin, end), a multiple of 16 apart.
  static void matmul(const MatmulJob& job, int64_t begin, int64_t end, std::byte* memory) {
    switch (job.w.type) {
      case DType::kQ8_0:
        return all_rows<Q8_0>(job, begin, end, memory);
      case DType::kMXFP4:
        return all_rows<Mxfp4>(job, begin, end, memory);
      case DType::kQ2_K:
        return all_rows<Q2_K>(job, begin, end, memory);
      case DType::kQ4_K:
        return all_rows<Q4_K>(job, begin, end, memory);
      default:
        return all_rows<Iq2Xxs>(job, begin, end, memory);
    }
  }
};

}  // namespace narwhal::cpu
