// Weights of 16 rows side by side, unpacked from the packed blocks. One template per level V.
#pragma once

#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels/kernels.h"

namespace narwhal::cpu {

// 32 inputs of 16 outputs: 16-bit pairs [32 / 2][16][2] in the order of ActKind::kInt16.
struct alignas(64) Panel32 {
  int16_t w[16][kLanes][2];
  float d[kLanes];
};

// The same as bytes, four inputs of an output side by side.
struct alignas(64) BytePanel32 {
  int8_t w[8][kLanes][4];
  float d[kLanes];
};

// 256 inputs of 16 outputs. w is unsigned: levels (Q4_K), scale * level (Q2_K), 64 + value
// (IQ2_XXS); scale is per 32 inputs, mins are 16-bit pairs for Act's sum32 (Q4_K) or sum16 (Q2_K).
struct alignas(64) Panel256 {
  uint8_t w[64][kLanes][4];
  int32_t scale[8][kLanes];
  int16_t mins[8][kLanes][2];
  float d[kLanes], dmin[kLanes];
};

template <class V>
struct Unpack {
  // Addresses of 16 rows from row o on; rows past the end repeat the last.
  struct Rows {
    const uint8_t* at[kLanes];
    int64_t ahead;  // from a row to the same row of the next 16: what is read next in memory

    Rows(const Weight& w, int64_t o) {
      const int64_t stride = w.row_bytes();
      ahead = kLanes * stride;
      for (int l = 0; l < kLanes; l++) {
        const int64_t r = o + l < w.n_out ? o + l : w.n_out - 1;
        at[l] = reinterpret_cast<const uint8_t*>(w.data) + r * stride;
      }
    }
  };

  static uint16_t u16(const uint8_t* p) {
    uint16_t v;
    std::memcpy(&v, p, 2);
    return v;
  }

  // 16 halves, one from each row, widened.
  static void halves(const Rows& rows, int64_t offset, float* out) {
    uint16_t h[kLanes];
    for (int l = 0; l < kLanes; l++) h[l] = u16(rows.at[l] + offset);
    V::store(out, V::load_f16(h));
  }

  // Signed bytes of 16 rows, 32 inputs, to 16-bit pairs.
  static void bytes32(const uint8_t* const* rows, int64_t offset, Panel32* out) {
    alignas(64) uint8_t dwords[8][64];
    V::interleave16(rows, offset, dwords[0]);
    V::interleave16(rows, offset + 16, dwords[4]);
    for (int j = 0; j < 8; j++) V::widen(V::wload(dwords[j]), out->w[2 * j]);
  }

  static void bytes32(const uint8_t* const* rows, int64_t offset, BytePanel32* out) {
    V::interleave16(rows, offset, out->w[0]);
    V::interleave16(rows, offset + 16, out->w[4]);
  }

  template <class Panel>
  static void q8_0(const Rows& rows, int64_t block, Panel* out) {
    const int64_t at = block * 34;
    for (int l = 0; l < kLanes && block % 2 == 0; l++) V::prefetch(rows.at[l] + at + rows.ahead);
    bytes32(rows.at, at + 2, out);
    halves(rows, at, out->d);
  }

  // Twice the FP4 values of 16 rows, under half the scale.
  static void mxfp4_rows(const Rows& rows, int64_t block, int8_t (*out)[32], float* d) {
    static constexpr int8_t kTwice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    for (int l = 0; l < kLanes; l++) {
      const uint8_t* p = rows.at[l] + block * 17;
      V::prefetch(p + rows.ahead);
      V::lookup_nibbles(kTwice, p + 1, out[l]);
      // 2^(e - 128), subnormal for e = 0 and 1; NaN for 255.
      const uint32_t bits = p[0] == 255 ? 0x7fc00000u
                            : p[0] > 1  ? static_cast<uint32_t>(p[0] - 1) << 23
                                        : 0x00200000u << p[0];
      std::memcpy(&d[l], &bits, 4);
    }
  }

  template <class Panel>
  static void mxfp4(const Rows& rows, int64_t block, Panel* out) {
    alignas(64) int8_t w[kLanes][32];
    mxfp4_rows(rows, block, w, out->d);
    const uint8_t* at[kLanes];
    for (int l = 0; l < kLanes; l++) at[l] = reinterpret_cast<const uint8_t*>(w[l]);
    bytes32(at, 0, out);
  }

  // Of Panel32 or BytePanel32.
  template <class Panel>
  static void panel(DType type, const Rows& rows, int64_t block, Panel* out) {
    if (type == DType::kQ8_0)
      q8_0(rows, block, out);
    else
      mxfp4(rows, block, out);
  }

  // One row of a block before interleaving.
  struct alignas(64) Row256 {
    uint8_t w[256];
    int32_t scale[8];
    int16_t mins[16];
  };

  static void q2_k_row(const uint8_t* p, Row256* out) {
    if constexpr (V::kFastRows) {
      V::q2_k_row(p, out->w, out->mins);
    } else {
      for (int t = 0; t < 16; t++) out->mins[t] = static_cast<int16_t>(p[t] >> 4);
      // Eight bytes of a word at a time: 3 * 15 stays within its byte.
      for (int t = 0; t < 16; t++)
        for (int l = 0; l < 16; l += 8) {
          uint64_t q;
          std::memcpy(&q, p + 16 + 32 * (t / 8) + 16 * (t % 2) + l, 8);
          q = (q >> 2 * (t / 2 % 4) & 0x0303030303030303u) * (p[t] & 15u);
          std::memcpy(out->w + 16 * t + l, &q, 8);
        }
    }
  }

  static void q4_k_row(const uint8_t* p, Row256* out) {
    const uint8_t* s = p + 4;
    for (int j = 0; j < 4; j++) {
      out->scale[j] = s[j] & 63;
      out->mins[j] = static_cast<int16_t>(s[j + 4] & 63);
      out->scale[j + 4] = (s[j + 8] & 15) | s[j] >> 6 << 4;
      out->mins[j + 4] = static_cast<int16_t>(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
    }
    const uint8_t* qs = p + 16;
    for (int c = 0; c < 4; c++)
      for (int l = 0; l < 32; l++) {
        out->w[64 * c + l] = qs[32 * c + l] & 15;
        out->w[64 * c + 32 + l] = qs[32 * c + l] >> 4;
      }
  }

  static void iq2_xxs_row(const Iq2Tables& t, const uint8_t* p, Row256* out) {
    if constexpr (V::kFastRows) {
      V::iq2_xxs_row(t, p, out->w, out->scale);
    } else {
      for (int g = 0; g < 8; g++) {
        const uint8_t* q = p + 2 + 8 * g;
        uint32_t tail;
        std::memcpy(&tail, q + 4, 4);
        out->scale[g] = static_cast<int32_t>(2 * (tail >> 28) + 1);
        for (int j = 0; j < 4; j++) {
          const uint32_t s = tail >> 7 * j & 127;
          const uint64_t v = (t.grid[q[j]] ^ t.flip[s]) + t.one[s];
          std::memcpy(out->w + 32 * g + 8 * j, &v, 8);
        }
      }
    }
  }

  static void panel(DType type, const Iq2Tables& tables, const Rows& rows, int64_t block,
                    Panel256* out) {
    const int64_t size = type == DType::kQ4_K ? 144 : type == DType::kQ2_K ? 84 : 66;
    const int64_t at = block * size;
    Row256 row[kLanes];
    const uint8_t* w[kLanes];
    for (int l = 0; l < kLanes; l++) {
      const uint8_t* p = rows.at[l] + at;
      for (int64_t line = 0; line < size; line += 66) V::prefetch(p + rows.ahead + line);
      w[l] = row[l].w;
      if (type == DType::kQ2_K)
        q2_k_row(p, &row[l]);
      else if (type == DType::kQ4_K)
        q4_k_row(p, &row[l]);
      else
        iq2_xxs_row(tables, p, &row[l]);
    }
    for (int c = 0; c < 16; c++) V::interleave16(w, 16 * c, out->w[4 * c]);
    constexpr int64_t kScale = offsetof(Row256, scale), kMins = offsetof(Row256, mins);
    if (type != DType::kQ2_K)
      for (int c = 0; c < 2; c++) V::interleave16(w, kScale + 16 * c, out->scale[4 * c]);
    if (type != DType::kIQ2_XXS)
      for (int c = 0; c < (type == DType::kQ2_K ? 2 : 1); c++)
        V::interleave16(w, kMins + 16 * c, out->mins[4 * c]);
    if (type == DType::kIQ2_XXS) {
      halves(rows, at, out->d);
      V::store(out->d, V::mul(V::load(out->d), V::set1(0.125f)));
    } else {
      const int64_t d = at + (type == DType::kQ2_K ? 80 : 0);
      halves(rows, d, out->d);
      halves(rows, d + 2, out->dmin);
    }
  }
};

}  // namespace narwhal::cpu
