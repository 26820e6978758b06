// The vocabulary on AMD GPUs with 32 lanes (RDNA; CDNA's 64 are not served). Compiled, never run.
#pragma once

#include <hip/hip_fp16.h>
#include <hip/hip_runtime.h>
#include <stdint.h>

#define k_device
#define k_shared
#define k_private
#define k_table static __device__ const
#define k_fn static __device__ __forceinline__
#define k_fn_member __device__ __forceinline__
#define k_call __device__ __forceinline__
#define k_const const
#define k_value static constexpr
#define k_unroll _Pragma("unroll")

#define K_ENTRY(name, ...)                                                                   \
  extern "C" __global__ void                                                                 \
      __attribute__((amdgpu_flat_work_group_size(1, (__VA_ARGS__::kThreads))))               \
      nw_##name(const __VA_ARGS__ k) {                                                       \
    __shared__ __align__(16) unsigned char shared[sizeof(typename __VA_ARGS__::Shared)];     \
    const Group g{blockIdx.x, threadIdx.x, blockDim.x, threadIdx.x & 31u, threadIdx.x >> 5}; \
    k(g, reinterpret_cast<typename __VA_ARGS__::Shared*>(shared));                           \
  }

#include "kernels/portable_threads.h"

namespace narwhal {
namespace kernels {

k_fn float k_f16_to_f32(uint16_t h) { return __half2float(__ushort_as_half(h)); }
k_fn uint16_t k_f32_to_f16(float x) { return __half_as_ushort(__float2half(x)); }
k_fn void k_unpack_u8(uint32_t w, float* out) {
  for (int i = 0; i < 4; i++) out[i] = float(uint8_t(w >> 8 * i));  // v_cvt_f32_ubyte
}
k_fn void k_unpack_s8(uint32_t w, float* out) {
  for (int i = 0; i < 4; i++) out[i] = float(int8_t(w >> 8 * i));
}

struct Group {
  unsigned group, index, size, lane, simd;

  __device__ unsigned n_simds() const { return size >> 5; }
  __device__ void barrier() const { __syncthreads(); }
  __device__ void simd_barrier() const { __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront"); }
  __device__ float simd_sum(float x) const {
    for (int m = 16; m > 0; m >>= 1) x += __shfl_xor(x, m, 32);
    return x;
  }
  __device__ uint32_t simd_max(uint32_t x) const {
    for (int m = 16; m > 0; m >>= 1) {
      const auto other = static_cast<uint32_t>(__shfl_xor(static_cast<int>(x), m, 32));
      x = other > x ? other : x;
    }
    return x;
  }
  __device__ uint32_t simd_shuffle(uint32_t x, unsigned from) const {
    return static_cast<uint32_t>(__shfl(static_cast<int>(x), static_cast<int>(from), 32));
  }
  __device__ float simd_shuffle(float x, unsigned from) const {
    return __shfl(x, static_cast<int>(from), 32);
  }

  // Fragments as the emulator lays them out; products by shuffles, until WMMA can be measured.
  __device__ void load_a(FragA& a, const uint16_t* p, int stride) const {
    const uint16_t* at = p + lane / 4 * stride + 2 * (lane % 4);
    a.r[0] = *reinterpret_cast<const uint32_t*>(at);
    a.r[1] = *reinterpret_cast<const uint32_t*>(at + 8 * stride);
    a.r[2] = *reinterpret_cast<const uint32_t*>(at + 8);
    a.r[3] = *reinterpret_cast<const uint32_t*>(at + 8 * stride + 8);
  }
  __device__ void load_b(FragB& b, const uint16_t* p, int stride) const {
    const uint16_t* at = p + lane / 4 * stride + 2 * (lane % 4);
    b.r[0] = *reinterpret_cast<const uint32_t*>(at);
    b.r[1] = *reinterpret_cast<const uint32_t*>(at + 8);
  }
  // As load_b, but row k of p is row k of the tile.
  __device__ void load_b_across(FragB& b, const uint16_t* p, int stride) const {
    const uint16_t* at = p + 2 * (lane % 4) * stride + lane / 4;
    for (int half = 0; half < 2; half++, at += 8 * stride)
      b.r[half] = static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[stride]) << 16;
  }
  __device__ void store_c(const FragC& c, float* p, int stride) const {
    float* at = p + (lane >> 2) * stride + 2 * (lane & 3);
    at[0] = c.r[0];
    at[1] = c.r[1];
    at[8 * stride] = c.r[2];
    at[8 * stride + 1] = c.r[3];
  }
  // Multiplies row i by factors[i].
  __device__ void scale_rows(FragC& c, const float* factors) const {
    const float low = factors[lane / 4], high = factors[lane / 4 + 8];
    c.r[0] *= low;
    c.r[1] *= low;
    c.r[2] *= high;
    c.r[3] *= high;
  }
  __device__ void clear(FragC& c) const { c.r[0] = c.r[1] = c.r[2] = c.r[3] = 0; }
  __device__ void mma(FragC& c, const FragA& a, const FragB& b) const {
    for (int k = 0; k < 16; k++) {
      const unsigned from = k % 8 / 2, shift = 16 * (k % 2);
      const uint32_t low = simd_shuffle(a.r[2 * (k / 8)], lane / 4 * 4 + from) >> shift;
      const uint32_t high = simd_shuffle(a.r[2 * (k / 8) + 1], lane / 4 * 4 + from) >> shift;
      for (int i = 0; i < 2; i++) {
        const unsigned column = 2 * (lane % 4) + i;
        const float w = k_f16_to_f32(
            static_cast<uint16_t>(simd_shuffle(b.r[k / 8], column * 4 + from) >> shift));
        c.r[i] = fmaf(k_f16_to_f32(static_cast<uint16_t>(low)), w, c.r[i]);
        c.r[2 + i] = fmaf(k_f16_to_f32(static_cast<uint16_t>(high)), w, c.r[2 + i]);
      }
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
