// Parts of matrix tiles as NVIDIA's matrix units deal them to the lanes of a simd, which HIP and
// the emulator follow: what a lane does without the others.
#pragma once

namespace narwhal {
namespace kernels {

// A lane's part of a 16 x 16 tile of halves, of a 16 x 8 one, of 16 x 8 sums, and of a column
// of 16.
struct FragA {
  uint32_t r[4];
};
struct FragB {
  uint32_t r[2];
};
struct FragC {
  float r[4];
};
struct FragRows {
  float v[2];
};

// Lane l holds rows l / 4 and l / 4 + 8 and, of each half of the columns, the pair at 2 (l % 4).
struct Lanes {
  unsigned group, index, size, lane, simd;

  k_call void load_a(FragA& a, const uint16_t* p, int stride) const {
    const uint16_t* at = p + lane / 4 * stride + 2 * (lane % 4);
    pair(a.r[0], at);
    pair(a.r[1], at + 8 * stride);
    pair(a.r[2], at + 8);
    pair(a.r[3], at + 8 * stride + 8);
  }
  k_call void load_b(FragB& b, const uint16_t* p, int stride) const {  // row n of p: column n
    const uint16_t* at = p + lane / 4 * stride + 2 * (lane % 4);
    pair(b.r[0], at);
    pair(b.r[1], at + 8);
  }
  // b[0] from rows 0 to 7 of p, b[1] from the next eight.
  k_call void load_b_pair(FragB* b, const uint16_t* p, int stride) const {
    load_b(b[0], p, stride);
    load_b(b[1], p + 8 * stride, stride);
  }
  // As load_b, but row k of p is row k of the tile.
  k_call void load_b_across(FragB& b, const uint16_t* p, int stride) const {
    const uint16_t* at = p + 2 * (lane % 4) * stride + lane / 4;
    for (int half = 0; half < 2; half++, at += 8 * stride)
      b.r[half] = uint32_t(at[0]) | uint32_t(at[stride]) << 16;
  }
  // Columns 0 .. 7 and 8 .. 15 of a tile twice as wide.
  k_call void load_b_across_pair(FragB& b0, FragB& b1, const uint16_t* p, int stride) const {
    load_b_across(b0, p, stride);
    load_b_across(b1, p + 8, stride);
  }
  k_call void store_c(const FragC& c, float* p, int stride) const {
    float* at = p + (lane >> 2) * stride + 2 * (lane & 3);
    at[0] = c.r[0];
    at[1] = c.r[1];
    at[8 * stride] = c.r[2];
    at[8 * stride + 1] = c.r[3];
  }
  // Multiplies row i by factors[i].
  k_call void scale_rows(FragC& c, const float* factors) const {
    FragRows rows;
    load_rows(rows, factors);
    scale_rows(c, rows);
  }
  // The values of a column of 16, by row of a FragC.
  k_call void load_rows(FragRows& rows, const float* p) const {
    rows.v[0] = p[lane / 4];
    rows.v[1] = p[lane / 4 + 8];
  }
  k_call void scale_rows(FragC& c, const FragRows& rows) const {
    c.r[0] *= rows.v[0];
    c.r[1] *= rows.v[0];
    c.r[2] *= rows.v[1];
    c.r[3] *= rows.v[1];
  }
  // sum += rows * max(c, 0)
  k_call void add_relu(FragC& sum, const FragC& c, const FragRows& rows) const {
    k_unroll for (int i = 0; i < 4; i++) sum.r[i] =
        k_mad(rows.v[i / 2], fmaxf(c.r[i], 0.0f), sum.r[i]);
  }
  k_call void clear(FragC& c) const { c.r[0] = c.r[1] = c.r[2] = c.r[3] = 0; }

 private:
  static k_call void pair(uint32_t& r, const uint16_t* p) {
    __builtin_memcpy(&r, __builtin_assume_aligned(p, 4), 4);
  }
};

}  // namespace kernels
}  // namespace narwhal
