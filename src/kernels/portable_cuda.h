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

// Stands in namespace narwhal::kernels; extern "C" keeps the name plain. The launch gives the
// shared memory: more than 48 KiB cannot be declared. A kernel with kResident leaves registers for
// so many groups on a multiprocessor.
#define K_ENTRY(name, ...)                                                                     \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__::kThreads, resident<__VA_ARGS__>()) \
      nw_##name(const __grid_constant__ __VA_ARGS__ k) {                                       \
    extern __shared__ __align__(16) unsigned char nw_shared[];                                 \
    const Group g{{blockIdx.x, threadIdx.x, blockDim.x, threadIdx.x & 31u, threadIdx.x >> 5}}; \
    if constexpr (!BeginsEarly<__VA_ARGS__>::kValue) g.await_results();                        \
    k(g, reinterpret_cast<typename __VA_ARGS__::Shared*>(nw_shared));                          \
    g.release_next();                                                                          \
  }

#include "kernels/portable_threads.h"

namespace narwhal {
namespace kernels {

template <class K>
constexpr int resident() {
  if constexpr (requires { K::kResident; })
    return K::kResident;
  else
    return 0;
}

template <class K>
struct BeginsEarly {
  static constexpr bool kValue = requires { K::kBeginsEarly; };
};

k_value int kGridCopies = 32;  // of the entries of a GridTable for products of few rows

k_fn float k_f16_to_f32(uint16_t h) { return __half2float(__ushort_as_half(h)); }
k_fn uint16_t k_f32_to_f16(float x) { return __half_as_ushort(__float2half_rn(x)); }

// A byte b placed in the last byte of 2^23 reads as 2^23 + b: one permutation and one subtraction
// instead of the slow conversion instruction.
k_fn void k_unpack_s8(uint32_t w, float* out) {
  w ^= 0x80808080u;
#pragma unroll
  for (int i = 0; i < 4; i++)
    out[i] = __uint_as_float(__byte_perm(w, 0x4B000000u, 0x7540u + i)) - 8388736.0f;
}

// Byte i of the result is the byte of {low, high} that nibble i of the selector names, 0 to 7. The
// intrinsic would first clear the upper bits of the nibbles.
k_fn uint32_t k_permute(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t out;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(out) : "r"(low), "r"(high), "r"(selector));
  return out;
}
// sum + a . b over four signed bytes.
k_fn int k_dot4(uint32_t a, uint32_t b, int sum) {
  return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
}

// A product with zero, of which the compiler does not know that it is.
k_fn int k_after(int value, uint32_t word) {
  return static_cast<int>(__dp4a(word, blockDim.y - 1u, static_cast<uint32_t>(value)));
}
// base[32 * byte i of w]: a dot product with one byte makes the address.
k_fn uint32_t k_lookup(const uint32_t* base, uint32_t w, int i) {
  uint32_t address;
  asm("dp4a.u32.u32 %0, %1, %2, %3;"
      : "=r"(address)
      : "r"(w), "r"(0x80u << 8 * i), "r"(static_cast<uint32_t>(__cvta_generic_to_shared(base))));
  return *static_cast<const uint32_t*>(__cvta_shared_to_generic(address));
}

k_fn float k_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#define NW_HALF2(op, ...)            \
  uint32_t out;                      \
  asm(op : "=r"(out) : __VA_ARGS__); \
  return out
k_fn uint32_t k_half2_add(uint32_t a, uint32_t b) {
  NW_HALF2("add.rn.f16x2 %0, %1, %2;", "r"(a), "r"(b));
}
k_fn uint32_t k_half2_mul(uint32_t a, uint32_t b) {
  NW_HALF2("mul.rn.f16x2 %0, %1, %2;", "r"(a), "r"(b));
}
k_fn uint32_t k_half2_fma(uint32_t a, uint32_t b, uint32_t c) {
  NW_HALF2("fma.rn.f16x2 %0, %1, %2, %3;", "r"(a), "r"(b), "r"(c));
}
k_fn uint32_t k_half2(float low, float high) {
  NW_HALF2("cvt.rn.f16x2.f32 %0, %1, %2;", "f"(high), "f"(low));
}
#undef NW_HALF2

struct Group : Lanes {
  __device__ unsigned n_simds() const { return size >> 5; }
  __device__ void barrier() const { __syncthreads(); }
  __device__ void simd_barrier() const { __syncwarp(); }
  __device__ void await_results() const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  }
  __device__ void release_next() const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
  }
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

  __device__ void copy_async(uint16_t* to, const void* from) const {
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
  }
  __device__ void copy_wait() const { asm volatile("cp.async.wait_all;" ::: "memory"); }

  // The matrix units' own loads.
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
  __device__ void load_b_pair(FragB* b, const uint16_t* p, int stride) const {
    const uint16_t* at = p + ((lane & 7) + (lane >> 4) * 8) * stride + (lane >> 3 & 1) * 8;
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(b[0].r[0]), "=r"(b[0].r[1]), "=r"(b[1].r[0]), "=r"(b[1].r[1])
                 : "r"(address)
                 : "memory");
  }
  __device__ void load_b_across(FragB& b, const uint16_t* p, int stride) const {
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(p + (lane & 15) * stride));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(b.r[0]), "=r"(b.r[1])
                 : "r"(address)
                 : "memory");
  }
  __device__ void load_b_across_pair(FragB& b0, FragB& b1, const uint16_t* p, int stride) const {
    const uint16_t* at = p + (lane & 15) * stride + (lane >> 4) * 8;
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(b0.r[0]), "=r"(b0.r[1]), "=r"(b1.r[0]), "=r"(b1.r[1])
                 : "r"(address)
                 : "memory");
  }
  // The simd copies n_bytes from any address to `to + (address mod 16)`, and gives that offset.
  // `to` is aligned to 16 bytes and has room for n_bytes + 30; bytes beside the row that share 16
  // aligned bytes with it may come along. They are there after copy_wait, for other lanes after a
  // barrier that follows.
  __device__ int copy_row(uint8_t* to, const uint8_t* from, int n_bytes) const {
    const auto skip = static_cast<int>(reinterpret_cast<uintptr_t>(from) & 15);
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
    for (int i = 16 * static_cast<int>(lane); i < skip + n_bytes; i += 16 * 32)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                   :
                   : "r"(address + i), "l"(from - skip + i)
                   : "memory");
    return skip;
  }
  // p[0 .. 7] = the sums of the columns; lanes 0 to 3 write.
  __device__ void store_column_sums(const FragC& c, float* p) const {
    float even = c.r[0] + c.r[2], odd = c.r[1] + c.r[3];
    k_unroll for (int m = 4; m < 32; m *= 2) {
      even += __shfl_xor_sync(0xffffffffu, even, m);
      odd += __shfl_xor_sync(0xffffffffu, odd, m);
    }
    if (lane < 4) {
      p[2 * lane] = even;
      p[2 * lane + 1] = odd;
    }
  }
  __device__ void mma(FragC& c, const FragA& a, const FragB& b) const {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c.r[0]), "+f"(c.r[1]), "+f"(c.r[2]), "+f"(c.r[3])
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
  }
  // c += 16 x 32 signed bytes times 32 x 8.
  __device__ void mma_bytes(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) const {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

}  // namespace kernels
}  // namespace narwhal

#include "kernels/portable_byte_tiles.h"
