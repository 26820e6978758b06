// Level amx: the avx512 kernels, with products of many rows on tile registers.
//
// A tile product multiplies 16 activation rows by 16 outputs over 32 inputs (blocks of 32) or 64 at
// a time (blocks of 256) and adds up in 32 bits, so the sums are those of the other levels exactly.
// 16-bit activations are two planes of bytes, 256 hi + lo.
#if defined(__x86_64__) && defined(NARWHAL_AMX)
#include "backend/cpu/kernels/vec_avx512.h"
// The vocabulary first: the bodies are templates over it.
#include "backend/cpu/kernels/body_vector.h"
#include "backend/cpu/kernels/stream_avx512.h"

namespace narwhal::cpu {
namespace {

// A type of its own, so that no template is shared with avx512.cc.
struct Amx : Avx512 {
  static constexpr Level kLevel = Level::kAmx;
};

using Base = Matmul<Amx>;
using U = Unpack<Amx>;

constexpr int kRows = 16;     // of a tile
constexpr int kFewRows = 10;  // below, tiles would be mostly empty
constexpr int64_t kWide = Base::kWide;
constexpr int64_t kPart = 16;  // blocks of 32 whose activations stay in the first-level cache

struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0..3 sums, 4 and 5 activations, 6 and 7 weights; `inputs` per product.
void configure(int inputs) {
  TileConfig c;
  for (int t = 0; t < 8; t++) {
    c.rows[t] = static_cast<uint8_t>(t < 6 ? kRows : inputs / 4);
    c.row_bytes[t] = static_cast<uint16_t>(t == 4 || t == 5 ? inputs : 64);
  }
  _tile_loadconfig(&c);
}

// 16 activation rows: at[] as they lie; their codes also at a fixed stride from `base`, copied
// where rows are scattered or missing.
struct RowTile {
  const std::byte* at[kRows];
  const std::byte* base;  // the first code of row 0
  int64_t stride;

  RowTile(const MatmulJob& job, int64_t codes, int64_t n_codes, int first, int n, std::byte* copy) {
    for (int r = 0; r < kRows; r++) at[r] = job.act(first + (r < n ? r : 0));
    base = at[0] + codes;
    stride = job.act_stride;
    if (n == kRows && !job.in_rows) return;
    for (int r = 0; r < kRows; r++) std::memcpy(copy + r * (n_codes + 64), at[r] + codes, n_codes);
    base = copy;
    stride = n_codes + 64;  // rows in different sets of the cache
  }
};

using Sums = int32_t[4][kRows][kLanes];

// Products of one block, hi and lo of the left panel, hi and lo of the right one, between calls of
// step(0) to step(7): the processor looks too few instructions ahead to find other work by itself.
template <class Step>
void products32(const BytePanel32& left, const BytePanel32& right, const RowTile& x,
                const ActLayout& a, int64_t b, Sums& c, Step step) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, x.base + 32 * b, x.stride);
  _tile_loadd(6, left.w, 64);
  _tile_dpbssd(0, 4, 6);
  step(0);
  _tile_loadd(5, x.base + (a.lo - a.hi) + 32 * b, x.stride);
  _tile_dpbusd(1, 5, 6);
  step(1);
  _tile_loadd(7, right.w, 64);
  _tile_dpbssd(2, 4, 7);
  step(2);
  _tile_dpbusd(3, 5, 7);
  step(3);
  _tile_stored(0, c[0], 64);
  step(4);
  _tile_stored(1, c[1], 64);
  step(5);
  _tile_stored(2, c[2], 64);
  step(6);
  _tile_stored(3, c[3], 64);
  step(7);
}

// Rows [first, first + 4) of one panel.
inline void add32(const float* d, const RowTile& x, const ActLayout& a, int64_t b, int first,
                  const int32_t (*c)[kRows][kLanes], float* sums) {
  const __m512 scales = _mm512_load_ps(d);
#pragma GCC unroll 4
  for (int r = first; r < first + 4; r++) {
    float scale;
    std::memcpy(&scale, x.at[r] + a.scale + 4 * b, 4);
    const __m512i total = _mm512_add_epi32(_mm512_slli_epi32(_mm512_load_si512(c[0][r]), 8),
                                           _mm512_load_si512(c[1][r]));
    float* to = sums + r * kWide;
    _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to),
                                      _mm512_mul_ps(_mm512_cvtepi32_ps(total),
                                                    _mm512_mul_ps(scales, _mm512_set1_ps(scale)))));
  }
}

// Two panels by 16 rows over blocks [begin, end); sums [16][kWide], continued. A block's sums are
// read one block later, between its products: tile stores are slow to be seen by loads.
void tile32(const BytePanel32* left, const BytePanel32* right, int64_t begin, int64_t end,
            const RowTile& x, const ActLayout& a, float* sums) {
  alignas(64) Sums c[2];
  const auto add = [&](int64_t b, int step) {
    if (step < 4)
      add32(left[b].d, x, a, b, 4 * step, c[b % 2], sums);
    else
      add32(right[b].d, x, a, b, 4 * step - 16, c[b % 2] + 2, sums + kLanes);
  };
  products32(left[begin], right[begin], x, a, begin, c[begin % 2], [](int) {});
  for (int64_t b = begin + 1; b < end; b++)
    products32(left[b], right[b], x, a, b, c[b % 2], [&](int step) { add(b - 1, step); });
  for (int step = 0; step < 8; step++) add(end - 1, step);
}

void many_rows32(const MatmulJob& job, int64_t begin, int64_t end, std::byte* memory) {
  const ActLayout a(job.kind, job.w.n_in, /*planes=*/true);
  auto* sums = reinterpret_cast<float*>(memory);
  std::byte* copy = memory + kRows * kWide * sizeof(float);
  auto* panels = reinterpret_cast<BytePanel32*>(copy + kRows * (a.stride + 64));
  const int64_t n_blocks = job.w.n_in / 32;
  configure(32);
  for (int64_t o = begin; o < end; o += kWide) {
    const int64_t stop = o + kWide < end ? o + kWide : end;
    const int64_t n_panels = (stop - o + kLanes - 1) / kLanes;
    for (int64_t p = 0; p < n_panels; p++) {
      const U::Rows rows(job.w, o + p * kLanes);
      for (int64_t b = 0; b < n_blocks; b++)
        U::panel(job.w.type, rows, b, panels + p * n_blocks + b);
    }
    for (int first = 0; first < job.n; first += kRows) {
      const int n = first + kRows < job.n ? kRows : job.n - first;
      const RowTile x(job, a.hi, a.stride - a.hi, first, n, copy);
      std::memset(sums, 0, kRows * kWide * sizeof(float));
      for (int64_t b = 0; b < n_blocks; b += kPart) {
        const int64_t end_block = b + kPart < n_blocks ? b + kPart : n_blocks;
        for (int64_t p = 0; p < n_panels; p += 2) {
          const BytePanel32* left = panels + p * n_blocks;
          const BytePanel32* right = p + 1 < n_panels ? left + n_blocks : left;
          tile32(left, right, b, end_block, x, a, sums + p * kLanes);
        }
      }
      for (int r = 0; r < n; r++) Base::put(job, first + r, o, stop - o, sums + r * kWide);
    }
  }
  _tile_release();
}

// Weights of blocks of 256 times their group scales, in 16 bits: 64 times the first plane plus the
// second. Q2_K is its first plane alone.
struct alignas(64) TilePanel256 {
  int8_t w[2][64][kLanes][4];
  int16_t mins[8][kLanes][2];
  float d[kLanes], dmin[kLanes];
};

// Signed bytes of a register times 16-bit scales per lane, split into the two planes.
void split(__m512i bytes, __m512i scales, void* high, void* low) {
  const auto halves = [&](__m512i words, __m512i& hi, __m512i& lo) {
    const __m512i product = _mm512_mullo_epi16(words, scales);
    hi = _mm512_srai_epi16(_mm512_add_epi16(product, _mm512_set1_epi16(32)), 6);
    lo = _mm512_sub_epi16(product, _mm512_slli_epi16(hi, 6));
  };
  __m512i hi_even, lo_even, hi_odd, lo_odd;
  halves(_mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8), hi_even, lo_even);
  halves(_mm512_srai_epi16(bytes, 8), hi_odd, lo_odd);
  const __mmask64 odd = 0xaaaaaaaaaaaaaaaau;
  _mm512_store_si512(high, _mm512_mask_blend_epi8(odd, hi_even, _mm512_slli_epi16(hi_odd, 8)));
  _mm512_store_si512(low, _mm512_mask_blend_epi8(odd, lo_even, _mm512_slli_epi16(lo_odd, 8)));
}

// The planes of an IQ2_XXS magnitude times each odd scale: bytes 0 to 2 of entry s / 2 are those of
// 8 s, 25 s and 43 s.
struct Iq2Planes {
  alignas(64) uint32_t high[16] = {}, low[16] = {};

  constexpr Iq2Planes() {
    constexpr int kMagnitudes[] = {8, 25, 43};
    for (int t = 0; t < 16; t++)
      for (int i = 0; i < 3; i++) {
        const int v = kMagnitudes[i] * (2 * t + 1), h = (v + 32) >> 6;
        high[t] |= static_cast<uint32_t>(h & 255) << 8 * i;
        low[t] |= static_cast<uint32_t>((v - 64 * h) & 255) << 8 * i;
      }
  }
};

// Four outputs with four bytes each share 16 bytes, so the three products of an output's scale are
// a quarter of a lookup table.
void unpack_iq2(const Iq2Tables& tables, const U::Rows& rows, int64_t block, TilePanel256* out) {
  static constexpr Iq2Planes kPlanes;
  const int64_t at = 66 * block;
  U::Row256 row[kLanes];
  const uint8_t* w[kLanes];
  for (int l = 0; l < kLanes; l++) {
    const uint8_t* p = rows.at[l] + at;
    Amx::prefetch(p + rows.ahead);
    Amx::iq2_xxs_row<true>(tables, p, row[l].w, row[l].scale);
    w[l] = row[l].w;
  }
  alignas(64) uint8_t codes[64][kLanes][4];
  alignas(64) int32_t scale[8][kLanes];
  for (int c = 0; c < 16; c++) Amx::interleave16(w, 16 * c, codes[4 * c]);
  for (int c = 0; c < 2; c++)
    Amx::interleave16(w, offsetof(U::Row256, scale) + 16 * c, scale[4 * c]);
  U::halves(rows, at, out->d);
  Amx::store(out->d, Amx::mul(Amx::load(out->d), Amx::set1(0.125f)));
  const __m512i quarter =
      _mm512_broadcast_i32x4(_mm_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
  const __m512i code = _mm512_set1_epi8(3), zero = _mm512_setzero_si512();
  for (int g = 0; g < 8; g++) {
    const __m512i half = _mm512_srli_epi32(_mm512_load_si512(scale[g]), 1);
    const __m512i high = _mm512_permutexvar_epi32(half, _mm512_load_si512(kPlanes.high));
    const __m512i low = _mm512_permutexvar_epi32(half, _mm512_load_si512(kPlanes.low));
    for (int k = 8 * g; k < 8 * g + 8; k++) {
      const __m512i c = _mm512_load_si512(codes[k]);
      const __mmask64 negative = _mm512_movepi8_mask(c);
      const __m512i index =
          _mm512_ternarylogic_epi32(c, code, quarter, 0xea);  // (c & code) | quarter
      const __m512i h = _mm512_shuffle_epi8(high, index), l = _mm512_shuffle_epi8(low, index);
      _mm512_store_si512(out->w[0][k], _mm512_mask_sub_epi8(h, negative, zero, h));
      _mm512_store_si512(out->w[1][k], _mm512_mask_sub_epi8(l, negative, zero, l));
    }
  }
}

void unpack(const MatmulJob& job, const Iq2Tables& tables, const U::Rows& rows, int64_t block,
            TilePanel256* out) {
  if (job.w.type == DType::kIQ2_XXS) return unpack_iq2(tables, rows, block, out);
  Panel256 p;
  U::panel(job.w.type, tables, rows, block, &p);
  std::memcpy(out->d, p.d, sizeof p.d);
  std::memcpy(out->dmin, p.dmin, sizeof p.dmin);
  std::memcpy(out->mins, p.mins, sizeof p.mins);
  if (job.w.type == DType::kQ2_K) {
    std::memcpy(out->w[0], p.w, sizeof p.w);
    return;
  }
  for (int g = 0; g < 8; g++) {
    const __m512i scale = _mm512_load_si512(p.scale[g]);
    const __m512i scales = _mm512_or_si512(scale, _mm512_slli_epi32(scale, 16));
    for (int k = 8 * g; k < 8 * g + 8; k++)
      split(_mm512_load_si512(p.w[k]), scales, out->w[0][k], out->w[1][k]);
  }
}

// As products32.
template <int kPlanes, class Step>
void products256(const TilePanel256& left, const TilePanel256& right, const RowTile& x, int64_t b,
                 Sums& c, Step step) {
  _tile_zero(0);
  _tile_zero(2);
  if constexpr (kPlanes == 2) {
    _tile_zero(1);
    _tile_zero(3);
  }
  for (int t = 0; t < 4; t++) {
    _tile_loadd(4, x.base + 256 * b + 64 * t, x.stride);
    _tile_loadd(6, left.w[0][16 * t], 64);
    _tile_dpbssd(0, 4, 6);
    _tile_loadd(7, right.w[0][16 * t], 64);
    _tile_dpbssd(2, 4, 7);
    step(2 * t);
    if constexpr (kPlanes == 2) {
      _tile_loadd(6, left.w[1][16 * t], 64);
      _tile_dpbssd(1, 4, 6);
      _tile_loadd(7, right.w[1][16 * t], 64);
      _tile_dpbssd(3, 4, 7);
    }
    step(2 * t + 1);
  }
  _tile_stored(0, c[0], 64);
  _tile_stored(2, c[2], 64);
  if constexpr (kPlanes == 2) {
    _tile_stored(1, c[1], 64);
    _tile_stored(3, c[3], 64);
  }
}

// The operations of Matmul::tile256 on sums from tiles, for rows [first, first + 4).
template <int kPlanes, int kMins>
void add256(const TilePanel256& panel, const RowTile& x, const ActLayout& a, int64_t b, int first,
            const int32_t (*c)[kRows][kLanes], float* sums) {
  const __m512 d = _mm512_load_ps(panel.d), dmin = _mm512_load_ps(panel.dmin);
#pragma GCC unroll 4
  for (int r = first; r < first + 4; r++) {
    float scale;
    std::memcpy(&scale, x.at[r] + a.scale + 4 * b, 4);
    const __m512 dx = _mm512_set1_ps(scale);
    __m512i total = _mm512_load_si512(c[0][r]);
    if constexpr (kPlanes == 2)
      total = _mm512_add_epi32(_mm512_slli_epi32(total, 6), _mm512_load_si512(c[1][r]));
    __m512 value = _mm512_mul_ps(_mm512_mul_ps(dx, d), _mm512_cvtepi32_ps(total));
    if constexpr (kMins > 0) {
      const std::byte* of = x.at[r] + (kMins == 8 ? a.sum16 : a.sum32) + 4 * kMins * b;
      __m512i minima = _mm512_setzero_si512();
      for (int t = 0; t < kMins; t++)
        minima = Amx::dp16(minima, _mm512_load_si512(panel.mins[t]), of + 4 * t);
      value =
          _mm512_sub_ps(value, _mm512_mul_ps(_mm512_mul_ps(dx, dmin), _mm512_cvtepi32_ps(minima)));
    }
    float* to = sums + r * kWide;
    _mm512_store_ps(to, _mm512_add_ps(_mm512_load_ps(to), value));
  }
}

template <int kPlanes, int kMins>
void tile256(const TilePanel256* left, const TilePanel256* right, int64_t n_blocks,
             const RowTile& x, const ActLayout& a, float* sums) {
  alignas(64) Sums c[2];
  const auto add = [&](int64_t b, int step) {
    if (step < 4)
      add256<kPlanes, kMins>(left[b], x, a, b, 4 * step, c[b % 2], sums);
    else
      add256<kPlanes, kMins>(right[b], x, a, b, 4 * step - 16, c[b % 2] + 2, sums + kLanes);
  };
  products256<kPlanes>(left[0], right[0], x, 0, c[0], [](int) {});
  for (int64_t b = 1; b < n_blocks; b++)
    products256<kPlanes>(left[b], right[b], x, b, c[b % 2], [&](int step) { add(b - 1, step); });
  for (int step = 0; step < 8; step++) add(n_blocks - 1, step);
}

void many_rows256(const MatmulJob& job, int64_t begin, int64_t end, std::byte* memory) {
  const ActLayout a(job.kind, job.w.n_in, /*planes=*/true);
  auto* sums = reinterpret_cast<float*>(memory);
  std::byte* copy = memory + kRows * kWide * sizeof(float);
  auto* panels = reinterpret_cast<TilePanel256*>(copy + kRows * (job.w.n_in + 64));
  const int64_t n_blocks = job.w.n_in / 256;
  auto* const tile = job.w.type == DType::kQ2_K   ? tile256<1, 8>
                     : job.w.type == DType::kQ4_K ? tile256<2, 4>
                                                  : tile256<2, 0>;
  const Iq2Tables& tables = iq2_tables();
  configure(64);
  for (int64_t o = begin; o < end; o += kWide) {
    const int64_t stop = o + kWide < end ? o + kWide : end;
    const int64_t n_panels = (stop - o + kLanes - 1) / kLanes;
    for (int64_t p = 0; p < n_panels; p++) {
      const U::Rows rows(job.w, o + p * kLanes);
      for (int64_t b = 0; b < n_blocks; b++)
        unpack(job, tables, rows, b, panels + p * n_blocks + b);
    }
    for (int first = 0; first < job.n; first += kRows) {
      const int n = first + kRows < job.n ? kRows : job.n - first;
      const RowTile x(job, 0, job.w.n_in, first, n, copy);
      std::memset(sums, 0, kRows * kWide * sizeof(float));
      for (int64_t p = 0; p < n_panels; p += 2) {
        const TilePanel256* left = panels + p * n_blocks;
        tile(left, p + 1 < n_panels ? left + n_blocks : left, n_blocks, x, a, sums + p * kLanes);
      }
      for (int r = 0; r < n; r++) Base::put(job, first + r, o, stop - o, sums + r * kWide);
    }
  }
  _tile_release();
}

void matmul(const MatmulJob& job, int64_t begin, int64_t end, std::byte* memory) {
  if (job.n < kFewRows || job.kind == ActKind::kF32) return Base::matmul(job, begin, end, memory);
  if (job.kind == ActKind::kInt16) return many_rows32(job, begin, end, memory);
  many_rows256(job, begin, end, memory);
}

int64_t scratch_bytes(int64_t n_in) {
  const int64_t panels =
      kWide / kLanes * (n_in / 256 + 1) * static_cast<int64_t>(sizeof(TilePanel256));
  const int64_t rows = kRows * (ActLayout(ActKind::kInt16, n_in, true).stride + 64 + kWide * 4);
  return Base::scratch_bytes(n_in) + panels + rows;
}

constexpr Kernels table() {
  Kernels k = Vector<Amx, true>::table();
  k.matmul = matmul;
  k.scratch_bytes = scratch_bytes;
  return k;
}

}  // namespace

extern const Kernels kAmxKernels;
const Kernels kAmxKernels = table();

}  // namespace narwhal::cpu
#endif
