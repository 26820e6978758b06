// Weights as kernels read them: split into planes at load (kernels/repack.h), so that every thread
// reads 16 aligned bytes.
//
//   type      planes of a matrix, one after another              unit            its values
//   F32       values                                              4 values        4 in a row
//   F16 BF16  values                                              8 values        8 in a row
//   Q8_0      q [blocks][32] | d [blocks]                         16 codes        16 in a row
//   Q4_K      qs [blocks][128] | d, dmin, s [blocks][16]          32 codes        2 runs of 16
//   Q2_K      qs [blocks][64] | s [blocks][16] | d, dmin          64 codes        4 runs of 16
//   IQ2_XXS   qs [blocks][64] | d [blocks]                        2 groups        4 runs of 16
//   MXFP4     qs [blocks][16] | e [blocks]                        1 block         2 runs of 16
//
// A codec reads a unit into registers (load), then gives run s of it as small integers or plain
// values q with x = scale * q - minus (run), and the first column of that run (column).
// The `Odd` codecs read value by value and take any width.
#pragma once

#include "kernels/codes.h"
#include "kernels/grid.h"

namespace narwhal {
namespace kernels {

struct Matrix {
  k_device const uint8_t* data;
  int64_t n_in, n_out;
  int64_t expert_stride;  // bytes; 0 where there is one matrix
};

struct Run {
  float q[16];
  float scale, minus;
};

struct NoTable {
  int unused;
};

k_fn uint32_t load_u16(k_device const uint8_t* p) {
  return *reinterpret_cast<k_device const uint16_t*>(p);
}
k_fn uint32_t load_u32(k_device const uint8_t* p) {
  return *reinterpret_cast<k_device const uint32_t*>(p);
}

k_fn void load_words(k_device const uint8_t* p, k_private uint32_t* out) {
  const Word4 w = k_load4(p);
  for (int i = 0; i < 4; i++) out[i] = w.v[i];
}

struct CodecF32 {
  k_value int kUnit = 4, kRuns = 1, kRun = 4, kScaled = 0, kHasMinus = 0;
  typedef NoTable Table;
  typedef Word4 Raw;
  static k_fn_member void load(k_private const Matrix& w, int64_t row, int u, k_private Raw& raw) {
    load_words(w.data + (row * w.n_in + u * 4) * 4, raw.v);
  }
  static k_fn_member int column(int u, int) { return u * 4; }
  static k_fn_member void run(k_private const Raw& raw, int, k_shared const Table*,
                              k_private Run& out) {
    for (int i = 0; i < 4; i++) out.q[i] = k_float(raw.v[i]);
    out.scale = 1;
    out.minus = 0;
  }
};

template <bool kBf16>
struct CodecHalf {
  k_value int kUnit = 8, kRuns = 1, kRun = 8, kScaled = 0, kHasMinus = 0;
  typedef NoTable Table;
  typedef Word4 Raw;
  static k_fn_member void load(k_private const Matrix& w, int64_t row, int u, k_private Raw& raw) {
    load_words(w.data + (row * w.n_in + u * 8) * 2, raw.v);
  }
  static k_fn_member int column(int u, int) { return u * 8; }
  static k_fn_member void run(k_private const Raw& raw, int, k_shared const Table*,
                              k_private Run& out) {
    for (int i = 0; i < 4; i++) {
      const uint16_t low = uint16_t(raw.v[i]), high = uint16_t(raw.v[i] >> 16);
      out.q[2 * i] = kBf16 ? bf16_to_f32(low) : k_f16_to_f32(low);
      out.q[2 * i + 1] = kBf16 ? bf16_to_f32(high) : k_f16_to_f32(high);
    }
    out.scale = 1;
    out.minus = 0;
  }
};
typedef CodecHalf<false> CodecF16;
typedef CodecHalf<true> CodecBF16;

// One value at a time: kType 0 F32, 1 F16, 2 BF16.
template <int kType>
struct CodecOdd {
  k_value int kUnit = 1, kRuns = 1, kRun = 1, kScaled = 0, kHasMinus = 0;
  typedef NoTable Table;
  typedef float Raw;
  static k_fn_member void load(k_private const Matrix& w, int64_t row, int u, k_private Raw& raw) {
    const int64_t i = row * w.n_in + u;
    if (kType == 0) {
      raw = reinterpret_cast<k_device const float*>(w.data)[i];
    } else {
      const uint16_t h = reinterpret_cast<k_device const uint16_t*>(w.data)[i];
      raw = kType == 1 ? k_f16_to_f32(h) : bf16_to_f32(h);
    }
  }
  static k_fn_member int column(int u, int) { return u; }
  static k_fn_member void run(k_private const Raw& raw, int, k_shared const Table*,
                              k_private Run& out) {
    out.q[0] = raw;
    out.scale = 1;
    out.minus = 0;
  }
};
typedef CodecOdd<0> CodecF32Odd;
typedef CodecOdd<1> CodecF16Odd;
typedef CodecOdd<2> CodecBF16Odd;

struct CodecQ8_0 {
  k_value int kUnit = 16, kRuns = 1, kRun = 16, kScaled = 1, kHasMinus = 0;
  typedef NoTable Table;
  struct Raw {
    uint32_t q[4];
    uint32_t d;
  };
  static k_fn_member void load(k_private const Matrix& w, int64_t row, int u, k_private Raw& raw) {
    const int64_t unit = row * (w.n_in / 16) + u;
    load_words(w.data + unit * 16, raw.q);
    raw.d = load_u16(w.data + w.n_in * w.n_out + (unit >> 1) * 2);
  }
  static k_fn_member int column(int u, int) { return u * 16; }
  static k_fn_member void run(k_private const Raw& raw, int, k_shared const Table*,
                              k_private Run& out) {
    for (int i = 0; i < 4; i++) k_unpack_s8(raw.q[i], out.q + 4 * i);
    out.scale = k_f16_to_f32(uint16_t(raw.d));
    out.minus = 0;
  }
};

struct CodecQ4_K {
  k_value int kUnit = 32, kRuns = 2, kRun = 16, kScaled = 1, kHasMinus = 1;
  typedef NoTable Table;
  struct Raw {
    uint32_t q[4], head[4];
    int pair;  // sub-blocks 2 * pair and 2 * pair + 1
  };
  // Unit 2p + h of a block: bytes 16h.. of its 32-byte piece p.
  static k_fn_member void load(k_private const Matrix& w, int64_t row, int u, k_private Raw& raw) {
    const int64_t blocks = w.n_in / 256 * w.n_out, block = row * (w.n_in / 256) + u / 8;
    load_words(w.data + block * 128 + u % 8 * 16, raw.q);
    load_words(w.data + blocks * 128 + block * 16, raw.head);
    raw.pair = u % 8 / 2;
  }
  static k_fn_member int column(int u, int s) {
    return u / 8 * 256 + u % 8 / 2 * 64 + s * 32 + u % 2 * 16;
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table*,
                              k_private Run& out) {
    for (int i = 0; i < 4; i++) k_unpack_u8(raw.q[i] >> 4 * s & 0x0f0f0f0fu, out.q + 4 * i);
    const int j = 2 * raw.pair + s;
    const int shift = 8 * (j % 4);
    // Words of s: low scales, low minima, and the low nibbles of the upper four of both.
    const uint32_t a = raw.head[1] >> shift, b = raw.head[2] >> shift, c = raw.head[3] >> shift;
    const uint32_t scale = j < 4 ? a & 63u : (c & 15u) | (a >> 6 & 3u) << 4;
    const uint32_t minimum = j < 4 ? b & 63u : (c >> 4 & 15u) | (b >> 6 & 3u) << 4;
    out.scale = k_f16_to_f32(uint16_t(raw.head[0])) * float(scale);
    out.minus = k_f16_to_f32(uint16_t(raw.head[0] >> 16)) * float(minimum);
  }
};

struct CodecQ2_K {
  k_value int kUnit = 64, kRuns = 4, kRun = 16, kScaled = 1, kHasMinus = 1;
  typedef NoTable Table;
  struct Raw {
    uint32_t q[4], s[4];
    uint32_t d;
    int first;  // sub-block of run 0; run k is 2k further
  };
  // Unit 2a + h of a block: bytes 16h.. of its half a.
  static k_fn_member void load(k_private const Matrix& w, int64_t row, int u, k_private Raw& raw) {
    const int64_t blocks = w.n_in / 256 * w.n_out, block = row * (w.n_in / 256) + u / 4;
    load_words(w.data + block * 64 + u % 4 * 16, raw.q);
    load_words(w.data + blocks * 64 + block * 16, raw.s);
    raw.d = load_u32(w.data + blocks * 80 + block * 4);
    raw.first = u % 4 / 2 * 8 + u % 2;
  }
  static k_fn_member int column(int u, int s) {
    return u / 4 * 256 + u % 4 / 2 * 128 + s * 32 + u % 2 * 16;
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table*,
                              k_private Run& out) {
    for (int i = 0; i < 4; i++) k_unpack_u8(raw.q[i] >> 2 * s & 0x03030303u, out.q + 4 * i);
    const int t = raw.first + 2 * s;
    // Sub-blocks 0..7 lie in the first two words, whichever half of the block this is.
    const uint32_t word =
        raw.first < 8 ? (s < 2 ? raw.s[0] : raw.s[1]) : (s < 2 ? raw.s[2] : raw.s[3]);
    const uint32_t both = word >> 8 * (t % 4);
    out.scale = k_f16_to_f32(uint16_t(raw.d)) * float(both & 15u);
    out.minus = k_f16_to_f32(uint16_t(raw.d >> 16)) * float(both >> 4 & 15u);
  }
};

struct CodecIQ2_XXS {
  k_value int kUnit = 64, kRuns = 4, kRun = 16, kScaled = 1, kHasMinus = 0;
  struct Table {
    uint32_t grid[512];
  };
  struct Raw {
    uint32_t q[4];
    uint32_t d;
  };
  static k_fn_member void load(k_private const Matrix& w, int64_t row, int u, k_private Raw& raw) {
    const int64_t blocks = w.n_in / 256 * w.n_out, block = row * (w.n_in / 256) + u / 4;
    load_words(w.data + block * 64 + u % 4 * 16, raw.q);
    raw.d = load_u16(w.data + blocks * 64 + block * 2);
  }
  static k_fn_member int column(int u, int s) { return u * 64 + s * 16; }
  // Four bytes of the grid with the signs of the low four bits: -b = ~b + 1 never carries, b > 0.
  static k_fn_member uint32_t with_signs(uint32_t grid, uint32_t signs) {
    const uint32_t ones = ((signs & 15u) * 0x00204081u) & 0x01010101u;
    return (grid ^ (ones * 255u)) + ones;
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table* table,
                              k_private Run& out) {
    const uint32_t indices = s < 2 ? raw.q[0] : raw.q[2];
    const uint32_t signs_and_scale = s < 2 ? raw.q[1] : raw.q[3];
    for (int t = 0; t < 2; t++) {
      const int sub = s % 2 * 2 + t;
      const uint32_t index = indices >> 8 * sub & 255u;
      uint32_t signs = signs_and_scale >> 7 * sub & 127u;
      uint32_t parity = signs ^ signs >> 4;
      parity ^= parity >> 2;
      parity ^= parity >> 1;
      signs |= (parity & 1u) << 7;
      k_unpack_s8(with_signs(table->grid[2 * index], signs), out.q + 8 * t);
      k_unpack_s8(with_signs(table->grid[2 * index + 1], signs >> 4), out.q + 8 * t + 4);
    }
    out.scale = k_f16_to_f32(uint16_t(raw.d)) * (0.5f + float(signs_and_scale >> 28)) * 0.25f;
    out.minus = 0;
  }
};

struct CodecMXFP4 {
  k_value int kUnit = 32, kRuns = 2, kRun = 16, kScaled = 1, kHasMinus = 0;
  typedef NoTable Table;
  struct Raw {
    uint32_t q[4];
    uint32_t e;
  };
  static k_fn_member void load(k_private const Matrix& w, int64_t row, int u, k_private Raw& raw) {
    const int64_t block = row * (w.n_in / 32) + u;
    load_words(w.data + block * 16, raw.q);
    raw.e = w.data[w.n_in / 32 * w.n_out * 16 + block];
  }
  static k_fn_member int column(int u, int s) { return u * 32 + s * 16; }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table*,
                              k_private Run& out) {
    for (int i = 0; i < 16; i++)
      out.q[i] = e2m1_to_f32(raw.q[i / 4] >> (8 * (i % 4) + 4 * s) & 15u);
    out.scale = e8m0_to_f32(raw.e);
    out.minus = 0;
  }
};

// Brings a codec's table into shared memory; ends with a barrier where there is one.
k_fn void load_table(k_private const Group&, k_shared NoTable*) {}
k_fn void load_table(k_private const Group& g, k_shared CodecIQ2_XXS::Table* table) {
  for (unsigned i = g.index; i < 512; i += g.size) table->grid[i] = kGridWords[i];
  g.barrier();
}

}  // namespace kernels
}  // namespace narwhal
