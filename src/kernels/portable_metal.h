// The vocabulary on Apple GPUs (Metal 3, macOS 14): groups are threadgroups, simds SIMD-groups.
// Pointers in argument structs are GPU addresses. Compile with fast math off.
#pragma once

#include <metal_stdlib>

#define k_device device
#define k_shared threadgroup
#define k_private thread
#define k_table constant
#define k_fn static inline
#define k_fn_member inline
#define k_call inline
#define k_const const thread
#define k_value static constexpr constant
#define k_unroll

#ifdef METAL_LINT
#define K_ENTRY(name, ...)                                                           \
  inline void nw_##name(k_private const __VA_ARGS__& k, k_private const Group& g,    \
                        k_shared typename __VA_ARGS__::Shared* shared) {             \
    static_assert(sizeof(typename __VA_ARGS__::Shared) <= 32768, "too much shared"); \
    k(g, shared);                                                                    \
  }
#else
#define K_ENTRY(name, ...)                                                                        \
  kernel void nw_##name(                                                                          \
      constant __VA_ARGS__& arguments [[buffer(0)]], uint group [[threadgroup_position_in_grid]], \
      uint index [[thread_position_in_threadgroup]], uint size [[threads_per_threadgroup]],       \
      uint lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]]) {    \
    static_assert(sizeof(typename __VA_ARGS__::Shared) <= 32768, "too much shared");              \
    threadgroup typename __VA_ARGS__::Shared shared;                                              \
    const __VA_ARGS__ k = arguments;                                                              \
    const Group g = {group, index, size, lane, simd};                                             \
    k(g, &shared);                                                                                \
  }
#endif

#include "kernels/portable_bytes.h"

namespace narwhal {
namespace kernels {

k_value bool kLargeShared = false;  // 48 KiB of shared memory for a group, else 32
k_value int kGridCopies = 1;        // of the entries of a GridTable for products of few rows
// Rows of a matrix tile (tile.h), where there are many rows and where few: threadgroup memory ends
// at 32 KiB.
k_value int kTileTokens = 64, kFewTileTokens = 32;

k_fn float k_float(uint32_t bits) { return as_type<float>(bits); }
k_fn uint32_t k_bits(float f) { return as_type<uint>(f); }
k_fn float k_sqrt(float x) { return metal::precise::sqrt(x); }
k_fn float k_exp(float x) { return metal::precise::exp(x); }
k_fn float k_log(float x) { return metal::precise::log(x); }
k_fn float k_fma(float a, float b, float c) { return metal::fma(a, b, c); }
k_fn float k_mad(float a, float b, float c) { return metal::fma(a, b, c); }
k_fn float k_abs(float x) { return metal::fabs(x); }

struct Word4 {
  uint32_t v[4];
};
k_fn Word4 k_load4(k_device const void* p) {
  const uint4 u = *reinterpret_cast<k_device const uint4*>(p);
  return {{u.x, u.y, u.z, u.w}};
}
k_fn uint4 vector_of(k_private const Word4& w) {
  uint4 u;
  u.x = w.v[0], u.y = w.v[1], u.z = w.v[2], u.w = w.v[3];
  return u;
}
k_fn void k_store4(k_device void* p, k_private const Word4& w) {
  *reinterpret_cast<k_device uint4*>(p) = vector_of(w);
}
k_fn void k_load8(k_device const uint8_t* p, k_private uint32_t* low, k_private uint32_t* high) {
  *low = *high = 0;
  for (int i = 0; i < 4; i++) {
    *low |= uint32_t(p[i]) << 8 * i;
    *high |= uint32_t(p[i + 4]) << 8 * i;
  }
}
#if !defined(METAL_ON_CPU)  // where there are no address spaces
k_fn Word4 k_load4(k_shared const void* p) {
  const uint4 u = *reinterpret_cast<k_shared const uint4*>(p);
  return {{u.x, u.y, u.z, u.w}};
}
k_fn void k_store4(k_shared void* p, k_private const Word4& w) {
  *reinterpret_cast<k_shared uint4*>(p) = vector_of(w);
}
#endif

k_fn float k_f16_to_f32(uint16_t h) { return float(as_type<half>(h)); }
k_fn uint16_t k_f32_to_f16(float x) { return as_type<ushort>(half(x)); }
k_fn uint32_t k_half2_add(uint32_t a, uint32_t b) {
  return as_type<uint32_t>(as_type<half2>(a) + as_type<half2>(b));
}
k_fn uint32_t k_half2_mul(uint32_t a, uint32_t b) {
  return as_type<uint32_t>(as_type<half2>(a) * as_type<half2>(b));
}
k_fn uint32_t k_half2_fma(uint32_t a, uint32_t b, uint32_t c) {
  return as_type<uint32_t>(metal::fma(as_type<half2>(a), as_type<half2>(b), as_type<half2>(c)));
}
k_fn uint32_t k_half2(float low, float high) {
  half2 h;
  h.x = half(low), h.y = half(high);
  return as_type<uint32_t>(h);
}
k_fn void k_unpack_s8(uint32_t w, k_private float* out) {
  for (int i = 0; i < 4; i++) out[i] = float(int8_t(w >> 8 * i));
}
k_fn float k_reciprocal(float x) { return 1.0f / x; }
k_fn int k_round(float x) { return int(metal::rint(x)); }

using k_atomic = metal::atomic_uint;
k_fn void k_atomic_zero(k_shared k_atomic* a) {
  metal::atomic_store_explicit(a, 0u, metal::memory_order_relaxed);
}
k_fn uint32_t k_atomic_add(k_shared k_atomic* a, uint32_t v) {
  return metal::atomic_fetch_add_explicit(a, v, metal::memory_order_relaxed);
}
k_fn uint32_t k_atomic_get(k_shared k_atomic* a) {
  return metal::atomic_load_explicit(a, metal::memory_order_relaxed);
}

// The two values of an 8 x 8 matrix that this lane holds.
#if defined(METAL_LINT)
#define k_elements(m) (m)  // the lint's matrices are such pairs
#else
#define k_elements(m) (m).thread_elements()
#endif

struct FragA {
  metal::simdgroup_half8x8 m[2][2];
};
struct FragB {
  metal::simdgroup_half8x8 m[2];
};
struct FragC {
  metal::simdgroup_float8x8 m[2];
};
struct FragRows {
  float v[2];
};

struct Group {
  uint group, index, size, lane, simd;

  k_call uint n_simds() k_const { return size / 32; }
  k_call void await_results() k_const {}
  k_call void release_next() k_const {}
  k_call void barrier() k_const {
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup | metal::mem_flags::mem_device);
  }
  k_call void simd_barrier() k_const {
    metal::simdgroup_barrier(metal::mem_flags::mem_threadgroup);
  }
  // A butterfly: the order of the additions is that of the other targets.
  k_call float simd_sum(float x) k_const {
    for (ushort m = 16; m > 0; m /= 2) x += metal::simd_shuffle_xor(x, m);
    return x;
  }
  k_call uint32_t simd_max(uint32_t x) k_const { return metal::simd_max(x); }
  k_call uint32_t simd_shuffle(uint32_t x, uint from) k_const {
    return metal::simd_shuffle(x, ushort(from & 31));
  }
  k_call float simd_shuffle(float x, uint from) k_const {
    return metal::simd_shuffle(x, ushort(from & 31));
  }

  k_call void copy_async(k_shared uint16_t* to, k_device const void* from) k_const {
    const Word4 w = k_load4(from);
    k_store4(to, w);
  }
  k_call void copy_wait() k_const {}

  k_call void load_a(k_private FragA& a, k_shared const uint16_t* p, int stride) k_const {
    k_shared const half* at = reinterpret_cast<k_shared const half*>(p);
    for (int row = 0; row < 2; row++)
      for (int k = 0; k < 2; k++)
        metal::simdgroup_load(a.m[row][k], at + row * 8 * stride + k * 8, ulong(stride));
  }
  k_call void load_b(k_private FragB& b, k_shared const uint16_t* p, int stride) k_const {
    k_shared const half* at = reinterpret_cast<k_shared const half*>(p);
    for (int k = 0; k < 2; k++)
      metal::simdgroup_load(b.m[k], at + k * 8, ulong(stride), ulong2(0), true);
  }
  // b[0] from rows 0 to 7 of p, b[1] from the next eight.
  k_call void load_b_pair(k_private FragB* b, k_shared const uint16_t* p, int stride) k_const {
    load_b(b[0], p, stride);
    load_b(b[1], p + 8 * stride, stride);
  }
  // As load_b, but row k of p is row k of the tile.
  k_call void load_b_across(k_private FragB& b, k_shared const uint16_t* p, int stride) k_const {
    k_shared const half* at = reinterpret_cast<k_shared const half*>(p);
    for (int k = 0; k < 2; k++) metal::simdgroup_load(b.m[k], at + k * 8 * stride, ulong(stride));
  }
  k_call void load_b_across_pair(k_private FragB& b0, k_private FragB& b1,
                                 k_shared const uint16_t* p, int stride) k_const {
    load_b_across(b0, p, stride);
    load_b_across(b1, p + 8, stride);
  }
  k_call int copy_row(k_shared uint8_t* to, k_device const uint8_t* from, int n_bytes) k_const {
    const int skip = int(reinterpret_cast<uint64_t>(from) & 15);
    for (int i = int(lane); i < n_bytes; i += 32) to[skip + i] = from[i];
    return skip;
  }
  k_call void store_c(k_private const FragC& c, k_shared float* p, int stride) k_const {
    for (int row = 0; row < 2; row++)
      metal::simdgroup_store(c.m[row], p + row * 8 * stride, ulong(stride));
  }
  // A lane holds two values of one row of an 8 x 8 matrix.
  k_call uint element_row() k_const { return (lane / 4 & 4) + lane / 2 % 4; }
  k_call uint element_column() k_const { return (lane / 4 & 2) * 2 + lane % 2 * 2; }
  // Multiplies row i by factors[i].
  k_call void scale_rows(k_private FragC& c, k_shared const float* factors) k_const {
    for (int half_rows = 0; half_rows < 2; half_rows++)
      k_elements(c.m[half_rows]) *= factors[half_rows * 8 + element_row()];
  }
  k_call void load_rows(k_private FragRows& rows, k_shared const float* p) k_const {
    rows.v[0] = p[element_row()];
    rows.v[1] = p[element_row() + 8];
  }
  k_call void scale_rows(k_private FragC& c, k_private const FragRows& rows) k_const {
    for (int half_rows = 0; half_rows < 2; half_rows++)
      k_elements(c.m[half_rows]) *= rows.v[half_rows];
  }
  k_call void add_relu(k_private FragC& sum, k_private FragC& c,
                       k_private const FragRows& rows) k_const {
    for (int half_rows = 0; half_rows < 2; half_rows++) {
      float2 x = k_elements(c.m[half_rows]);
      x.x = x.x > 0 ? x.x * rows.v[half_rows] : 0.0f;
      x.y = x.y > 0 ? x.y * rows.v[half_rows] : 0.0f;
      k_elements(sum.m[half_rows]) += x;
    }
  }
  k_call void store_column_sums(k_private FragC& c, k_shared float* p) k_const {
    float2 x = k_elements(c.m[0]);
    x += k_elements(c.m[1]);
    for (ushort m = 2; m < 32; m = m == 4 ? 16 : m * 2) {  // these bits of a lane choose its row
      x.x += metal::simd_shuffle_xor(x.x, m);
      x.y += metal::simd_shuffle_xor(x.y, m);
    }
    if ((lane & 22) == 0) {
      p[element_column()] = x.x;
      p[element_column() + 1] = x.y;
    }
  }
  k_call void clear(k_private FragC& c) k_const {
    for (int row = 0; row < 2; row++) c.m[row] = metal::simdgroup_float8x8(0);
  }
  k_call void mma(k_private FragC& c, k_private const FragA& a, k_private const FragB& b) k_const {
    for (int row = 0; row < 2; row++)
      for (int k = 0; k < 2; k++)
        metal::simdgroup_multiply_accumulate(c.m[row], a.m[row][k], b.m[k], c.m[row]);
  }
};

}  // namespace kernels
}  // namespace narwhal

#include "kernels/portable_lanes.h"
