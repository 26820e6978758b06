// The vocabulary on NVIDIA GPUs of compute capability 8.0 and later.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#define k_device
#define k_shared
#define k_private
#define k_table static __device__ const
#define k_fn static __device__ __forceinline__
#define k_call __device__ __forceinline__
#define k_fn_member __device__ __forceinline__
#define k_const const
#define k_value static constexpr
#define k_unroll _Pragma("unroll")

// Stands in namespace narwhal::kernels; extern "C" keeps the name plain.
#define K_ENTRY(name, ...)                                                                   \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__::kThreads)                        \
      nw_##name(const __grid_constant__ __VA_ARGS__ k) {                                     \
    __shared__ __align__(16) unsigned char shared[sizeof(typename __VA_ARGS__::Shared)];     \
    const Group g{blockIdx.x, threadIdx.x, blockDim.x, threadIdx.x & 31u, threadIdx.x >> 5}; \
    k(g, reinterpret_cast<typename __VA_ARGS__::Shared*>(shared));                           \
  }

#include "kernels/portable_threads.h"

namespace narwhal {
namespace kernels {

k_fn float k_f16_to_f32(uint16_t h) { return __half2float(__ushort_as_half(h)); }
k_fn uint16_t k_f32_to_f16(float x) { return __half_as_ushort(__float2half_rn(x)); }

// A byte b placed in the last byte of 2^23 reads as 2^23 + b: one permutation and one subtraction
// instead of the slow conversion instruction.
k_fn void k_unpack_u8(uint32_t w, float* out) {
#pragma unroll
  for (int i = 0; i < 4; i++)
    out[i] = __uint_as_float(__byte_perm(w, 0x4B000000u, 0x7540u + i)) - 8388608.0f;
}
k_fn void k_unpack_s8(uint32_t w, float* out) {
  w ^= 0x80808080u;
#pragma unroll
  for (int i = 0; i < 4; i++)
    out[i] = __uint_as_float(__byte_perm(w, 0x4B000000u, 0x7540u + i)) - 8388736.0f;
}

struct Group {
  unsigned group, index, size, lane, simd;

  __device__ unsigned n_simds() const { return size >> 5; }
  __device__ void barrier() const { __syncthreads(); }
  __device__ void simd_barrier() const { __syncwarp(); }
  __device__ float simd_sum(float x) const {
#pragma unroll
    for (int m = 16; m > 0; m >>= 1) x += __shfl_xor_sync(0xffffffffu, x, m);
    return x;
  }
  __device__ uint32_t simd_max(uint32_t x) const { return __reduce_max_sync(0xffffffffu, x); }
  __device__ uint32_t simd_shuffle(uint32_t x, unsigned from) const {
    return __shfl_sync(0xffffffffu, x, static_cast<int>(from));
  }
  __device__ float simd_shuffle(float x, unsigned from) const {
    return __shfl_sync(0xffffffffu, x, static_cast<int>(from));
  }

  __device__ void load_a(FragA& a, const uint16_t* p, int stride) const {
    const uint16_t* at = p + (lane & 15) * stride + (lane >> 4) * 8;
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(a.r[0]), "=r"(a.r[1]), "=r"(a.r[2]), "=r"(a.r[3])
                 : "r"(address)
                 : "memory");
  }
  __device__ void load_b(FragB& b, const uint16_t* p, int stride) const {
    const uint16_t* at = p + (lane & 7) * stride + (lane >> 3 & 1) * 8;
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(b.r[0]), "=r"(b.r[1])
                 : "r"(address)
                 : "memory");
  }
  // As load_b, but row k of p is row k of the tile.
  __device__ void load_b_across(FragB& b, const uint16_t* p, int stride) const {
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(p + (lane & 15) * stride));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(b.r[0]), "=r"(b.r[1])
                 : "r"(address)
                 : "memory");
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
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c.r[0]), "+f"(c.r[1]), "+f"(c.r[2]), "+f"(c.r[3])
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
  }
};

}  // namespace kernels
}  // namespace narwhal
