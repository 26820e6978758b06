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
// In planes of quantised types the same blocks of eight rows lie side by side, those of rows 8i ..
// 8i + 7 before the next block of these rows, so that lanes that share a row with few others
// (dot_band.h) still read places next to each other: a row's blocks are kStripe blocks apart. Rows
// that a last stripe lacks are room without content.
//
// The s of Q2_K are those of unit 0, of unit 1 .., by run. The second word of a group of IQ2_XXS
// has the seven sign bits of eight weights in each byte and below them a bit of the scale.
//
// A codec reads a unit of a row (planes_of) into registers (load), then gives run s of it as small
// integers or plain values q with x = scale * q - minus (run), and the first column of that run
// (column). The `Odd` codecs read value by value and take any width.
//
// Where kScaled, for products of integers (kernels/dot.h): kRuns / kSums runs in a row share a
// scale, and x of those of sum j is scale(j) * factor(j) * q - least_scale * least[j], with q as
// packed signed bytes (words) and an integer factor, so small that factor * q * 2^15 summed over
// the runs fits 32 bits. `touch` needs something of every load of a unit (k_after).
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

// Where the planes of a row begin, or those from a unit on that is number `in_block` of its block.
struct Planes {
  k_device const uint8_t *a, *b, *c;
  int in_block;
};

k_value int kStripeRows = 8;

template <class C>
k_fn Planes planes_of(k_private const Matrix& w, int64_t row) {
  const int64_t blocks = w.n_in / C::kBlock, in_stripe = row % C::kStripe;
  const int64_t before = (row - in_stripe) * blocks + in_stripe;
  const int64_t all = blocks * ((w.n_out + C::kStripe - 1) / C::kStripe * C::kStripe);
  k_device const uint8_t* second = w.data + all * C::kPlane0;
  return {w.data + before * C::kPlane0, second + before * C::kPlane1,
          second + all * C::kPlane1 + before * C::kPlane2, 0};
}

// `blocks` of a row further.
template <class C>
k_fn Planes skip_blocks(k_private const Planes& w, int blocks) {
  return {w.a + blocks * C::kPlane0, w.b + blocks * C::kPlane1, w.c + blocks * C::kPlane2,
          w.in_block};
}

// n units further.
template <class C>
k_fn Planes skip_units(k_private const Planes& w, int n) {
  const unsigned per_block = C::kBlock / C::kUnit, u = unsigned(n);
  const int block = int(u / per_block) * C::kStripe, in_block = int(u % per_block);
  return {w.a + (block * C::kPlane0 + in_block * int(C::kPlane0 / per_block)),
          w.b + (block * C::kPlane1 + in_block * C::kUnit1), w.c + block * C::kPlane2,
          w.in_block + in_block};
}

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
  k_value int kBlock = 4, kStripe = 1, kPlane0 = 16, kPlane1 = 0, kPlane2 = 0;
  typedef NoTable Table;
  typedef Word4 Raw;
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    load_words(w.a + u * 16, raw.v);
  }
  static k_fn_member int column(int u, int) { return u * 4; }
  static k_fn_member void run(k_private const Raw& raw, int, k_shared const Table*,
                              k_private Run& out) {
    for (int i = 0; i < 4; i++) out.q[i] = k_float(raw.v[i]);
    out.scale = 1;
    out.minus = 0;
  }
};

// A run of small integers.
template <class C>
k_fn void run_of(k_private const typename C::Raw& raw, int s, k_shared const typename C::Table* t,
                 k_private Run& out) {
  const int j = s / (C::kRuns / C::kSums);
  uint32_t words[4];
  C::words(raw, s, t, 0, words);
  for (int i = 0; i < 4; i++) k_unpack_s8(words[i], out.q + 4 * i);
  out.scale = C::scale(raw, j) * float(C::factor(raw, j));
  out.minus = 0;
  if (C::kHasMinus) {
    float least[C::kSums];
    C::least(raw, least);
    out.minus = C::least_scale(raw) * least[j];
  }
}

// What codecs without minima have for them, and whose second plane has nothing for single units.
struct NoMinima {
  k_value int kUnit1 = 0;
  template <class Raw, int kSums>
  static k_fn_member void least(k_private const Raw&, k_private float (&)[kSums]) {}
  template <class Raw>
  static k_fn_member float least_scale(k_private const Raw&) {
    return 0;
  }
};

template <bool kBf16>
struct CodecHalf {
  k_value int kUnit = 8, kRuns = 1, kRun = 8, kScaled = 0, kHasMinus = 0;
  k_value int kBlock = 8, kStripe = 1, kPlane0 = 16, kPlane1 = 0, kPlane2 = 0;
  typedef NoTable Table;
  typedef Word4 Raw;
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    load_words(w.a + u * 16, raw.v);
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
  k_value int kBlock = 1, kStripe = 1, kPlane0 = kType == 0 ? 4 : 2, kPlane1 = 0, kPlane2 = 0;
  typedef NoTable Table;
  typedef float Raw;
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    if (kType == 0) {
      raw = reinterpret_cast<k_device const float*>(w.a)[u];
    } else {
      const uint16_t h = reinterpret_cast<k_device const uint16_t*>(w.a)[u];
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

struct CodecQ8_0 : NoMinima {
  k_value int kUnit = 16, kRuns = 1, kSums = 1, kRun = 16, kScaled = 1, kHasMinus = 0;
  k_value int kBlock = 32, kStripe = kStripeRows, kPlane0 = 32, kPlane1 = 2,
              kPlane2 = 0;  // columns; bytes of a block in each
  typedef NoTable Table, DotTable;
  struct Raw {
    uint32_t q[4];
    uint32_t d;
  };
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    const Planes at = skip_units<CodecQ8_0>(w, u);
    load_words(at.a, raw.q);
    raw.d = load_u16(at.b);
  }
  static k_fn_member uint32_t touch(k_private const Raw& raw) { return raw.q[0] ^ raw.d; }
  static k_fn_member int column(int u, int) { return u * 16; }
  static k_fn_member void words(k_private const Raw& raw, int, k_shared const Table*, unsigned,
                                k_private uint32_t (&out)[4]) {
    for (int i = 0; i < 4; i++) out[i] = raw.q[i];
  }
  static k_fn_member int factor(k_private const Raw&, int) { return 1; }
  static k_fn_member float scale(k_private const Raw& raw, int) {
    return k_f16_to_f32(uint16_t(raw.d));
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table* table,
                              k_private Run& out) {
    run_of<CodecQ8_0>(raw, s, table, out);
  }
};

struct CodecQ4_K {
  k_value int kUnit = 32, kRuns = 2, kSums = 2, kRun = 16, kScaled = 1, kHasMinus = 1;
  k_value int kBlock = 256, kStripe = kStripeRows, kPlane0 = 128, kPlane1 = 16,
              kPlane2 = 0;  // columns; bytes of a block in each
  k_value int kUnit1 = 0;   // bytes of the second plane for a unit
  typedef NoTable Table, DotTable;
  struct Raw {
    uint32_t q[4], head[4];
    int pair;  // sub-blocks 2 * pair and 2 * pair + 1
  };
  // Unit 2p + h of a block: bytes 16h.. of its 32-byte piece p.
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    const Planes at = skip_units<CodecQ4_K>(w, u);
    load_words(at.a, raw.q);
    load_words(at.b, raw.head);
    raw.pair = at.in_block % 8 >> 1;
  }
  static k_fn_member uint32_t touch(k_private const Raw& raw) { return raw.q[0] ^ raw.head[0]; }
  static k_fn_member int column(int u, int s) {
    return u / 8 * 256 + u % 8 / 2 * 64 + s * 32 + u % 2 * 16;
  }
  static k_fn_member void words(k_private const Raw& raw, int s, k_shared const Table*, unsigned,
                                k_private uint32_t (&out)[4]) {
    for (int i = 0; i < 4; i++) out[i] = raw.q[i] >> 4 * s & 0x0f0f0f0fu;
  }
  // Words of s: low scales, low minima, and the low nibbles of the upper four of both.
  static k_fn_member int factor(k_private const Raw& raw, int s) {
    const int j = 2 * raw.pair + s, shift = 8 * (j % 4);
    const uint32_t low = raw.head[1] >> shift, rest = raw.head[3] >> shift;
    return int(j < 4 ? low & 63u : (rest & 15u) | (low >> 6 & 3u) << 4);
  }
  static k_fn_member float scale(k_private const Raw& raw, int) {
    return k_f16_to_f32(uint16_t(raw.head[0]));
  }
  static k_fn_member void least(k_private const Raw& raw, k_private float (&out)[kSums]) {
    for (int s = 0; s < kSums; s++) {
      const int j = 2 * raw.pair + s, shift = 8 * (j % 4);
      const uint32_t low = raw.head[2] >> shift, rest = raw.head[3] >> shift;
      out[s] = float(int(j < 4 ? low & 63u : (rest >> 4 & 15u) | (low >> 6 & 3u) << 4));
    }
  }
  static k_fn_member float least_scale(k_private const Raw& raw) {
    return k_f16_to_f32(uint16_t(raw.head[0] >> 16));
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table* table,
                              k_private Run& out) {
    run_of<CodecQ4_K>(raw, s, table, out);
  }
};

struct CodecQ2_K {
  k_value int kUnit = 64, kRuns = 4, kSums = 4, kRun = 16, kScaled = 1, kHasMinus = 1;
  k_value int kBlock = 256, kStripe = kStripeRows, kPlane0 = 64, kPlane1 = 16,
              kPlane2 = 4;  // columns; bytes of a block in each
  k_value int kUnit1 = 4;   // bytes of the second plane for a unit
  typedef NoTable Table, DotTable;
  struct Raw {
    uint32_t q[4];
    uint32_t s;  // a byte for every run
    uint32_t d;
  };
  // Unit 2a + h of a block: bytes 16h.. of its half a.
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    const Planes at = skip_units<CodecQ2_K>(w, u);
    load_words(at.a, raw.q);
    raw.s = load_u32(at.b);
    raw.d = load_u32(at.c);
  }
  static k_fn_member uint32_t touch(k_private const Raw& raw) { return raw.q[0] ^ raw.s ^ raw.d; }
  static k_fn_member int column(int u, int s) {
    return u / 4 * 256 + u % 4 / 2 * 128 + s * 32 + u % 2 * 16;
  }
  // Odd runs stay where they are, as four times their codes.
  static k_fn_member void words(k_private const Raw& raw, int s, k_shared const Table*, unsigned,
                                k_private uint32_t (&out)[4]) {
    const uint32_t mask = s % 2 == 0 ? 0x03030303u : 0x0c0c0c0cu;
    for (int i = 0; i < 4; i++) out[i] = (s < 2 ? raw.q[i] : raw.q[i] >> 4) & mask;
  }
  static k_fn_member int factor(k_private const Raw& raw, int s) {
    return int(k_permute(raw.s & 0x0f0f0f0fu, 0, 0x4440u | uint32_t(s)));
  }
  static k_fn_member float scale(k_private const Raw& raw, int s) {
    return k_f16_to_f32(uint16_t(raw.d)) * (s % 2 == 0 ? 1.0f : 0.25f);
  }
  static k_fn_member void least(k_private const Raw& raw, k_private float (&out)[kSums]) {
    k_unpack_s8(raw.s >> 4 & 0x0f0f0f0fu, out);
  }
  static k_fn_member float least_scale(k_private const Raw& raw) {
    return k_f16_to_f32(uint16_t(raw.d >> 16));
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table* table,
                              k_private Run& out) {
    run_of<CodecQ2_K>(raw, s, table, out);
  }
};

struct CodecIQ2_XXS : NoMinima {
  k_value int kUnit = 64, kRuns = 4, kSums = 2, kRun = 16, kScaled = 1, kHasMinus = 0;
  k_value int kBlock = 256, kStripe = kStripeRows, kPlane0 = 64, kPlane1 = 2,
              kPlane2 = 0;  // columns; bytes of a block in each
  typedef GridTable<kTableCopies> Table;
  typedef GridTable<kGridCopies> DotTable;
  struct Raw {
    uint32_t q[4];  // indices, signs, indices, signs
    uint32_t d;
  };
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    const Planes at = skip_units<CodecIQ2_XXS>(w, u);
    load_words(at.a, raw.q);
    raw.d = load_u16(at.b);
  }
  static k_fn_member uint32_t touch(k_private const Raw& raw) { return raw.q[0] ^ raw.d; }
  static k_fn_member int column(int u, int s) { return u * 64 + s * 16; }
  template <int kCopies>
  static k_fn_member void words(k_private const Raw& raw, int s,
                                k_shared const GridTable<kCopies>* table, unsigned copy,
                                k_private uint32_t (&out)[4]) {
    const uint32_t low = table->low[copy % kCopies];
    for (int t = 0; t < 2; t++) {
      const uint32_t selector = grid_selector(table, s < 2 ? raw.q[0] : raw.q[2],
                                              s < 2 ? raw.q[1] : raw.q[3], s % 2 * 2 + t, copy);
      out[2 * t] = k_permute(low, kNegatives, selector);
      out[2 * t + 1] = k_permute(low, kNegatives, selector >> 16);
    }
  }
  // A weight is level * (2 s + 1) / 8 * d: 2 s + 1, from the first bits of four bytes.
  static k_fn_member int odd(uint32_t signs) { return k_dot4(signs & 0x01010101u, 0x10080402u, 1); }
  static k_fn_member int factor(k_private const Raw& raw, int j) {
    return odd(j == 0 ? raw.q[1] : raw.q[3]);
  }
  static k_fn_member float scale(k_private const Raw& raw, int) {
    return k_f16_to_f32(uint16_t(raw.d)) * 0.125f;
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table* table,
                              k_private Run& out) {
    run_of<CodecIQ2_XXS>(raw, s, table, out);
  }
};

struct CodecMXFP4 : NoMinima {
  k_value int kUnit = 32, kRuns = 2, kSums = 1, kRun = 16, kScaled = 1, kHasMinus = 0;
  k_value int kBlock = 32, kStripe = kStripeRows, kPlane0 = 16, kPlane1 = 1,
              kPlane2 = 0;  // columns; bytes of a block in each
  typedef NoTable Table, DotTable;
  struct Raw {
    uint32_t q[4];
    uint32_t e;
  };
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    const Planes at = skip_units<CodecMXFP4>(w, u);
    load_words(at.a, raw.q);
    raw.e = *at.b;
  }
  static k_fn_member uint32_t touch(k_private const Raw& raw) { return raw.q[0] ^ raw.e; }
  static k_fn_member int column(int u, int s) { return u * 32 + s * 16; }
  // Twice the value of E2M1 is an integer: 0, 1, 2, 3, 4, 6, 8, 12.
  static k_fn_member void words(k_private const Raw& raw, int s, k_shared const Table*, unsigned,
                                k_private uint32_t (&out)[4]) {
    for (int i = 0; i < 4; i++) {
      const uint32_t bytes = raw.q[i] >> 4 * s & 0x0f0f0f0fu;
      const uint32_t pairs = (bytes | bytes >> 4) & 0x00ff00ffu;
      const uint32_t selector = (pairs | pairs >> 8) & 0x7777u;
      const uint32_t minus = (bytes >> 3 & 0x01010101u) * 255u;
      out[i] = (k_permute(0x03020100u, 0x0c080604u, selector) & ~minus) |
               (k_permute(0xfdfeff00u, 0xf4f8fafcu, selector) & minus);
    }
  }
  static k_fn_member int factor(k_private const Raw&, int) { return 1; }
  static k_fn_member float scale(k_private const Raw& raw, int) {
    return 0.5f * e8m0_to_f32(raw.e);
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table* table,
                              k_private Run& out) {
    run_of<CodecMXFP4>(raw, s, table, out);
  }
};

// As grid.h's, for codecs without a table.
k_fn void load_table(k_private const Group&, k_shared NoTable*) {}

}  // namespace kernels
}  // namespace narwhal
