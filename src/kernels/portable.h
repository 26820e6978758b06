// The vocabulary that kernels are written in: one text for CUDA, HIP, Metal and, in tests, threads
// of a CPU emulator.
//
// A kernel is a plain struct. Its fields are the arguments, `Shared` is the memory of a group,
// kThreads the number of threads of a group (a multiple of 32), operator() the body:
//
//   struct Scale {
//     k_value int kThreads = 256;
//     struct Shared {};
//     k_device float* x;
//     int n;
//     float factor;
//     k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
//       const int i = int(g.group * g.size + g.index);
//       if (i < n) x[i] *= factor;
//     }
//   };
//
// and one line in kernel_list.h makes its entry points. kResident, where a kernel has it, is the
// number of groups that a multiprocessor should hold at once. A kernel with kBeginsEarly may begin
// before the launches in front of it are done: it asks for weights, which only loading writes, then
// every thread calls await_results. The names, all of them:
//
//   memory     k_device, k_shared, k_private (address spaces of pointers), k_table (constants)
//   functions  k_fn (free), k_fn_member (static member), k_call ... k_const (other members)
//   constants  k_value; k_unroll before a loop of constant length
//   Group      group, index, size, lane, simd, barrier(), simd_barrier(), simd_sum(float),
//              simd_max(uint32_t), simd_shuffle(x, lane), n_simds(), mma and fragments (below)
//   launches   await_results: what earlier launches wrote is there; release_next, after it: groups
//              of the next launch may begin where there is room, once every group here has called
//              it or ended. Small groups would crowd on what is free first
//   numbers    k_float(bits), k_bits(float), k_f16_to_f32, k_f32_to_f16, k_unpack_s8,
//              k_round (nearest even, of magnitudes below 2^22)
//   bytes      k_permute (bytes chosen by nibbles), k_dot4 (four products, summed)
//   tables     k_lookup: base[32 * byte i of a word]
//   order      k_after: a value, known only when a word is. Chips count loads on their way with few
//              counters: loads asked for before one waits for earlier ones may be waited for, too
//   lanes      dot_lanes: every lane multiplies 16 bytes of each of two rows, a and b, with its 16
//              inputs of high and low bytes (256 high + low): sums += a . high, a . low, b . high,
//              b . low. Lanes of one l % 4 have the same inputs; the whole simd calls. input_lanes
//              takes where a lane's first inputs are in shared memory, and 128 bytes of zeros;
//              load_inputs brings those `after` words behind, a constant below 32; skip_inputs goes
//              on by words
//   half pairs k_half2_add, k_half2_mul, k_half2_fma (one rounding each, subnormals kept, the low
//              half of a word first), k_half2 (two floats rounded)
//   math       k_sqrt, k_exp, k_log, k_fma (one rounding), k_mad (one or two), k_abs,
//              k_reciprocal (of normal numbers, good to two units in the last place)
//   loads      k_load4, k_store4 (16 aligned bytes), Word4; k_load8 (8 bytes from anywhere, as two
//              words; bytes that share four aligned ones with them may be read, too)
//   copies     copy_async: 16 aligned bytes into shared memory, copy_row: a row of bytes; they are
//              there after this thread's copy_wait and a barrier
//   atomics    k_atomic, k_atomic_zero, k_atomic_add, k_atomic_get: counters in shared memory
//   matrices   FragA, FragB, FragC; load_a, load_b, load_b_across, store_c, clear, scale_rows, mma:
//              16 x 8 += 16 x 16 times 16 x 8; load_b_pair, load_b_across_pair (two neighbours in
//              n); FragRows: a value for every row of a FragC; load_rows, add_relu,
//              store_column_sums
//
// No lambdas, recursion, virtuals, doubles or function pointers: MSL has none of them. Expressions
// are never contracted; k_mad says where a fused multiply-add is welcome. Reductions run in a fixed
// order, so a row's result does not depend on what else is in the launch. A simd is 32 threads.
#pragma once

#if defined(__METAL_VERSION__)
#include "kernels/portable_metal.h"
#elif defined(__HIPCC__)
#include "kernels/portable_hip.h"
#elif defined(__CUDACC__)
#include "kernels/portable_cuda.h"
#else
#include "kernels/portable_emu.h"
#endif

namespace narwhal {
namespace kernels {

k_value int kSimd = 32;

// Sum over the group, the same for every thread. `part` holds one float per simd.
k_fn float group_sum(k_private const Group& g, k_shared float* part, float x) {
  x = g.simd_sum(x);
  g.barrier();
  if (g.lane == 0) part[g.simd] = x;
  g.barrier();
  float sum = 0;
  for (unsigned i = 0; i < g.n_simds(); i++) sum += part[i];
  return sum;
}

k_fn int min_int(int a, int b) { return a < b ? a : b; }
k_fn int max_int(int a, int b) { return a > b ? a : b; }
k_fn int64_t min_long(int64_t a, int64_t b) { return a < b ? a : b; }
k_fn float min_float(float a, float b) { return b < a ? b : a; }
k_fn float max_float(float a, float b) { return a < b ? b : a; }
k_fn uint32_t max_uint(uint32_t a, uint32_t b) { return a < b ? b : a; }

}  // namespace kernels
}  // namespace narwhal
