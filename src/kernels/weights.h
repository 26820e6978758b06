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
// A codec reads a unit of a row (planes_of) into registers (load), then gives run s of it as small
// integers or plain values q with x = scale * q - minus (run), and the first column of that run
// (column). Where kScaled, the integers also come as packed bytes (codes), for products of
// integers; kTwist spreads the runs of neighbouring units over the banks of shared memory
// (kernels/dot.h). The `Odd` codecs read value by value and take any width.
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

// Where the planes of one row begin.
struct Planes {
  k_device const uint8_t *a, *b, *c;
};

template <class C>
k_fn Planes planes_of(k_private const Matrix& w, int64_t row) {
  const int64_t blocks = w.n_in / C::kBlock, before = row * blocks, all = blocks * w.n_out;
  k_device const uint8_t* second = w.data + all * C::kPlane0;
  return {w.data + before * C::kPlane0, second + before * C::kPlane1,
          second + all * C::kPlane1 + before * C::kPlane2};
}

struct Run {
  float q[16];
  float scale, minus;
};

// The same run where a codec has small integers for it: four signed bytes a word, in column order.
struct Codes {
  uint32_t q[4];
  float scale, minus;
};

// Copies of a table's entries (CodecIQ2_XXS) where shared memory has room; a lane takes copy
// lane % kTableCopies.
k_value int kTableCopies = kLargeShared ? 8 : 1;

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
  k_value int kBlock = 4, kPlane0 = 16, kPlane1 = 0, kPlane2 = 0;
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

template <class C>
k_fn void run_of(k_private const typename C::Raw& raw, int s, k_shared const typename C::Table* t,
                 k_private Run& out) {
  Codes codes;
  C::codes(raw, s, t, 0, codes);
  for (int i = 0; i < 4; i++) k_unpack_s8(codes.q[i], out.q + 4 * i);
  out.scale = codes.scale;
  out.minus = codes.minus;
}

template <bool kBf16>
struct CodecHalf {
  k_value int kUnit = 8, kRuns = 1, kRun = 8, kScaled = 0, kHasMinus = 0;
  k_value int kBlock = 8, kPlane0 = 16, kPlane1 = 0, kPlane2 = 0;
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
  k_value int kBlock = 1, kPlane0 = kType == 0 ? 4 : 2, kPlane1 = 0, kPlane2 = 0;
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

struct CodecQ8_0 {
  k_value int kUnit = 16, kRuns = 1, kRun = 16, kTwist = 0, kScaled = 1, kHasMinus = 0;
  k_value int kBlock = 32, kPlane0 = 32, kPlane1 = 2,
              kPlane2 = 0;  // columns; bytes of a block in each
  typedef NoTable Table;
  struct Raw {
    uint32_t q[4];
    uint32_t d;
  };
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    load_words(w.a + u * 16, raw.q);
    raw.d = load_u16(w.b + (u & ~1));
  }
  static k_fn_member int column(int u, int) { return u * 16; }
  static k_fn_member void codes(k_private const Raw& raw, int, k_shared const Table*, unsigned,
                                k_private Codes& out) {
    for (int i = 0; i < 4; i++) out.q[i] = raw.q[i];
    out.scale = k_f16_to_f32(uint16_t(raw.d));
    out.minus = 0;
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table* table,
                              k_private Run& out) {
    run_of<CodecQ8_0>(raw, s, table, out);
  }
};

struct CodecQ4_K {
  k_value int kUnit = 32, kRuns = 2, kRun = 16, kTwist = 1, kScaled = 1, kHasMinus = 1;
  k_value int kBlock = 256, kPlane0 = 128, kPlane1 = 16,
              kPlane2 = 0;  // columns; bytes of a block in each
  typedef NoTable Table;
  struct Raw {
    uint32_t q[4], head[4];
    int pair;  // sub-blocks 2 * pair and 2 * pair + 1
  };
  // Unit 2p + h of a block: bytes 16h.. of its 32-byte piece p.
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    load_words(w.a + u * 16, raw.q);
    load_words(w.b + u / 8 * 16, raw.head);
    raw.pair = u % 8 / 2;
  }
  static k_fn_member int column(int u, int s) {
    return u / 8 * 256 + u % 8 / 2 * 64 + s * 32 + u % 2 * 16;
  }
  static k_fn_member void codes(k_private const Raw& raw, int s, k_shared const Table*, unsigned,
                                k_private Codes& out) {
    for (int i = 0; i < 4; i++) out.q[i] = raw.q[i] >> 4 * s & 0x0f0f0f0fu;
    const int j = 2 * raw.pair + s;
    const int shift = 8 * (j % 4);
    // Words of s: low scales, low minima, and the low nibbles of the upper four of both.
    const uint32_t a = raw.head[1] >> shift, b = raw.head[2] >> shift, c = raw.head[3] >> shift;
    const uint32_t scale = j < 4 ? a & 63u : (c & 15u) | (a >> 6 & 3u) << 4;
    const uint32_t minimum = j < 4 ? b & 63u : (c >> 4 & 15u) | (b >> 6 & 3u) << 4;
    out.scale = k_f16_to_f32(uint16_t(raw.head[0])) * float(scale);
    out.minus = k_f16_to_f32(uint16_t(raw.head[0] >> 16)) * float(minimum);
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table* table,
                              k_private Run& out) {
    run_of<CodecQ4_K>(raw, s, table, out);
  }
};

struct CodecQ2_K {
  k_value int kUnit = 64, kRuns = 4, kRun = 16, kTwist = 1, kScaled = 1, kHasMinus = 1;
  k_value int kBlock = 256, kPlane0 = 64, kPlane1 = 16,
              kPlane2 = 4;  // columns; bytes of a block in each
  typedef NoTable Table;
  struct Raw {
    uint32_t q[4], s[4];
    uint32_t d;
    int first;  // sub-block of run 0; run k is 2k further
  };
  // Unit 2a + h of a block: bytes 16h.. of its half a.
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    load_words(w.a + u * 16, raw.q);
    load_words(w.b + u / 4 * 16, raw.s);
    raw.d = load_u32(w.c + u / 4 * 4);
    raw.first = u % 4 / 2 * 8 + u % 2;
  }
  static k_fn_member int column(int u, int s) {
    return u / 4 * 256 + u % 4 / 2 * 128 + s * 32 + u % 2 * 16;
  }
  static k_fn_member void codes(k_private const Raw& raw, int s, k_shared const Table*, unsigned,
                                k_private Codes& out) {
    for (int i = 0; i < 4; i++) out.q[i] = raw.q[i] >> 2 * s & 0x03030303u;
    const int t = raw.first + 2 * s;
    // Sub-blocks 0..7 lie in the first two words, whichever half of the block this is.
    const uint32_t word =
        raw.first < 8 ? (s < 2 ? raw.s[0] : raw.s[1]) : (s < 2 ? raw.s[2] : raw.s[3]);
    const uint32_t both = word >> 8 * (t % 4);
    out.scale = k_f16_to_f32(uint16_t(raw.d)) * float(both & 15u);
    out.minus = k_f16_to_f32(uint16_t(raw.d >> 16)) * float(both >> 4 & 15u);
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table* table,
                              k_private Run& out) {
    run_of<CodecQ2_K>(raw, s, table, out);
  }
};

struct CodecIQ2_XXS {
  k_value int kUnit = 64, kRuns = 4, kRun = 16, kTwist = 0, kScaled = 1, kHasMinus = 0;
  k_value int kBlock = 256, kPlane0 = 64, kPlane1 = 2,
              kPlane2 = 0;  // columns; bytes of a block in each
  // Selectors of k_permute: a nibble chooses one of the levels 8, 25, 43 or, with bit 2, its
  // negative. An index gives the levels of eight weights, seven bits their signs: the eighth sign
  // makes their number even. Of every entry there are copies side by side: lanes that use different
  // ones rarely want the same bank.
  k_value int kCopies = kTableCopies;  // 8 or 1
  struct Table {
    uint32_t levels[256 * kCopies], signs[128 * kCopies];
  };
  k_value uint32_t kLevels = 0x002b1908u, kNegatives = 0x00d5e7f8u;
  struct Raw {
    uint32_t q[4];
    uint32_t d;
  };
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    load_words(w.a + u * 16, raw.q);
    raw.d = load_u16(w.b + u / 4 * 2);
  }
  static k_fn_member int column(int u, int s) { return u * 64 + s * 16; }
  // A copy of the entry whose number stands from bit `first` on: the bytes before it are two
  // operations.
  static k_fn_member uint32_t entry(k_shared const uint32_t* entries, uint32_t bits, int first,
                                    uint32_t mask, unsigned copy) {
    const int kShift = kCopies == 8 ? 5 : 2;
    const uint32_t number = first < kShift ? bits << (kShift - first) : bits >> (first - kShift);
    return *reinterpret_cast<k_shared const uint32_t*>(
        reinterpret_cast<k_shared const uint8_t*>(entries) +
        ((number & mask << kShift) | 4u * copy));
  }
  static k_fn_member void codes(k_private const Raw& raw, int s, k_shared const Table* table,
                                unsigned copy, k_private Codes& out) {
    const uint32_t indices = s < 2 ? raw.q[0] : raw.q[2];
    const uint32_t signs_and_scale = s < 2 ? raw.q[1] : raw.q[3];
    for (int t = 0; t < 2; t++) {
      const int sub = s % 2 * 2 + t;
      const uint32_t selector = entry(table->levels, indices, 8 * sub, 255u, copy) |
                                entry(table->signs, signs_and_scale, 7 * sub, 127u, copy);
      out.q[2 * t] = k_permute(kLevels, kNegatives, selector & 0xffffu);
      out.q[2 * t + 1] = k_permute(kLevels, kNegatives, selector >> 16);
    }
    out.scale = k_f16_to_f32(uint16_t(raw.d)) * (0.5f + float(signs_and_scale >> 28)) * 0.25f;
    out.minus = 0;
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table* table,
                              k_private Run& out) {
    run_of<CodecIQ2_XXS>(raw, s, table, out);
  }
};

struct CodecMXFP4 {
  k_value int kUnit = 32, kRuns = 2, kRun = 16, kTwist = 0, kScaled = 1, kHasMinus = 0;
  k_value int kBlock = 32, kPlane0 = 16, kPlane1 = 1,
              kPlane2 = 0;  // columns; bytes of a block in each
  typedef NoTable Table;
  struct Raw {
    uint32_t q[4];
    uint32_t e;
  };
  static k_fn_member void load(k_private const Planes& w, int u, k_private Raw& raw) {
    load_words(w.a + u * 16, raw.q);
    raw.e = w.b[u];
  }
  static k_fn_member int column(int u, int s) { return u * 32 + s * 16; }
  // Twice the value of E2M1 is an integer: 0, 1, 2, 3, 4, 6, 8, 12.
  static k_fn_member void codes(k_private const Raw& raw, int s, k_shared const Table*, unsigned,
                                k_private Codes& out) {
    for (int i = 0; i < 4; i++) {
      const uint32_t bytes = raw.q[i] >> 4 * s & 0x0f0f0f0fu;
      const uint32_t pairs = (bytes | bytes >> 4) & 0x00ff00ffu;
      const uint32_t selector = (pairs | pairs >> 8) & 0x7777u;
      const uint32_t minus = (bytes >> 3 & 0x01010101u) * 255u;
      out.q[i] = (k_permute(0x03020100u, 0x0c080604u, selector) & ~minus) |
                 (k_permute(0xfdfeff00u, 0xf4f8fafcu, selector) & minus);
    }
    out.scale = 0.5f * e8m0_to_f32(raw.e);
    out.minus = 0;
  }
  static k_fn_member void run(k_private const Raw& raw, int s, k_shared const Table* table,
                              k_private Run& out) {
    run_of<CodecMXFP4>(raw, s, table, out);
  }
};

// Brings a codec's table into shared memory; ends with a barrier where there is one.
k_fn void load_table(k_private const Group&, k_shared NoTable*) {}
k_fn void load_table(k_private const Group& g, k_shared CodecIQ2_XXS::Table* table) {
  for (int i = int(g.index); i < 256; i += int(g.size)) {
    uint32_t selector = 0;
    for (int word = 0; word < 2; word++) {
      const uint32_t codes = kGridWords[2 * i + word] >> 4 & 0x03030303u;  // 08, 19, 2b: 0, 1, 2
      const uint32_t pairs = (codes | codes >> 4) & 0x00ff00ffu;
      selector |= ((pairs | pairs >> 8) & 0xffffu) << 16 * word;
    }
    for (int c = 0; c < CodecIQ2_XXS::kCopies; c++)
      table->levels[i * CodecIQ2_XXS::kCopies + c] = selector;
  }
  for (int i = int(g.index); i < 128; i += int(g.size)) {
    uint32_t parity = uint32_t(i) ^ uint32_t(i) >> 4, selector = 0;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    const uint32_t signs = uint32_t(i) | (parity & 1u) << 7;
    for (int bit = 0; bit < 8; bit++) selector |= (signs >> bit & 1u) << (4 * bit + 2);
    for (int c = 0; c < CodecIQ2_XXS::kCopies; c++)
      table->signs[i * CodecIQ2_XXS::kCopies + c] = selector;
  }
  g.barrier();
}

}  // namespace kernels
}  // namespace narwhal
