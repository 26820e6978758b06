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

// The launch gives the shared memory.
#define K_ENTRY(name, ...)                                                                     \
  extern "C" __global__ void                                                                   \
      __attribute__((amdgpu_flat_work_group_size(1, (__VA_ARGS__::kThreads))))                 \
      nw_##name(const __VA_ARGS__ k) {                                                         \
    static_assert(sizeof(typename __VA_ARGS__::Shared) <= 65536);                              \
    extern __shared__ __align__(16) unsigned char nw_shared[];                                 \
    const Group g{{blockIdx.x, threadIdx.x, blockDim.x, threadIdx.x & 31u, threadIdx.x >> 5}}; \
    k(g, reinterpret_cast<typename __VA_ARGS__::Shared*>(nw_shared));                          \
  }

#include "kernels/portable_bytes.h"
#include "kernels/portable_threads.h"

namespace narwhal {
namespace kernels {

k_value int kGridCopies = 8;  // of the entries of a GridTable for products of few rows

k_fn float k_f16_to_f32(uint16_t h) { return __half2float(__ushort_as_half(h)); }
k_fn uint16_t k_f32_to_f16(float x) { return __half_as_ushort(__float2half(x)); }
k_fn void k_unpack_s8(uint32_t w, float* out) {
  for (int i = 0; i < 4; i++) out[i] = float(int8_t(w >> 8 * i));
}

k_fn float k_reciprocal(float x) { return 1.0f / x; }

typedef _Float16 k_halves __attribute__((ext_vector_type(2)));
k_fn uint32_t k_half2_add(uint32_t a, uint32_t b) {
  return __builtin_bit_cast(uint32_t,
                            __builtin_bit_cast(k_halves, a) + __builtin_bit_cast(k_halves, b));
}
k_fn uint32_t k_half2_mul(uint32_t a, uint32_t b) {
  return __builtin_bit_cast(uint32_t,
                            __builtin_bit_cast(k_halves, a) * __builtin_bit_cast(k_halves, b));
}
k_fn uint32_t k_half2_fma(uint32_t a, uint32_t b, uint32_t c) {
  const auto x = __builtin_bit_cast(k_halves, a), y = __builtin_bit_cast(k_halves, b),
             z = __builtin_bit_cast(k_halves, c);
  k_halves sum;
  sum.x = static_cast<_Float16>(__builtin_fmaf16(x.x, y.x, z.x));
  sum.y = static_cast<_Float16>(__builtin_fmaf16(x.y, y.y, z.y));
  return __builtin_bit_cast(uint32_t, sum);
}
k_fn uint32_t k_half2(float low, float high) {
  return uint32_t(k_f32_to_f16(low)) | uint32_t(k_f32_to_f16(high)) << 16;
}

struct Group : Lanes {
  __device__ unsigned n_simds() const { return size >> 5; }
  __device__ void barrier() const { __syncthreads(); }
  __device__ void await_results() const {}
  __device__ void release_next() const {}
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

  __device__ void copy_async(uint16_t* to, const void* from) const { k_store4(to, k_load4(from)); }
  __device__ void copy_wait() const {}

  __device__ int copy_row(uint8_t* to, const uint8_t* from, int n_bytes) const {
    const auto skip = static_cast<int>(reinterpret_cast<uintptr_t>(from) & 15);
    for (int i = static_cast<int>(lane); i < n_bytes; i += 32) to[skip + i] = from[i];
    return skip;
  }
  // p[0 .. 7] = the sums of the columns; lanes 0 to 3 write.
  __device__ void store_column_sums(const FragC& c, float* p) const {
    float even = c.r[0] + c.r[2], odd = c.r[1] + c.r[3];
    k_unroll for (int m = 4; m < 32; m *= 2) {
      even += __shfl_xor(even, m, 32);
      odd += __shfl_xor(odd, m, 32);
    }
    if (lane < 4) {
      p[2 * lane] = even;
      p[2 * lane + 1] = odd;
    }
  }
  // By shuffles, until WMMA can be measured.
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

#include "kernels/portable_lanes.h"
