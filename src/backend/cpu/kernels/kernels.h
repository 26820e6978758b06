// Kernels: the inner loops of the CPU backend, compiled once per level (level.h) from the same
// templates (body_*.h) over a small vector vocabulary (vec_*.h).
//
// Numerics of products with quantised weights, the same bits at every level and for any number of
// rows (a matvec and a matmul share every operation):
//
//   Q8_0, MXFP4           activations in blocks of 32 as s * q, |q| <= 32767; products of
//                         a block are summed as integers, then y += sum * (d * s), blocks ascending
//   Q4_K, Q2_K, IQ2_XXS   activations in blocks of 256 as Q8_K (quant/q8_k.h); y is what
//                         quant::dot_q8k gives, bit by bit
//   F32, F16, BF16        (and any type where the caller asks for it) weights decoded, activations
//   in f32; 16 running sums over inputs i mod 16, then a tree
//
// Rows of weights are read as they lie in the file (any alignment), 16 outputs side by side.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/kernels/level.h"
#include "ops/types.h"
#include "tensor/weight.h"

namespace narwhal::cpu {

inline constexpr int kLanes = 16;        // outputs side by side; running sums of an f32 product
inline constexpr int kMaxTileRows = 16;  // most activation rows that a kernel takes at once

// How activations are prepared for a weight type.
enum class ActKind { kF32, kInt16, kInt8 };
ActKind act_kind(DType t);

// One prepared row of n values.
//
//   kInt16   q[n] i16, the middle two of every four swapped | s[n / 32] f32 | where the level wants
//            planes: hi[n] i8 | lo[n] u8, q = 256 hi + lo
//   kInt8    q[n] i8 | start[n / 32] i32 = -64 * sum of q over 32 | sum16[n / 16] i16 | sum32[n /
//            32] i16 | d[n / 256] f32
struct ActLayout {
  int64_t scale = 0, start = 0, sum16 = 0, sum32 = 0, hi = 0, lo = 0;  // offsets in bytes
  int64_t stride = 0;                                                  // bytes of a row

  ActLayout(ActKind kind, int64_t n, bool planes);  // planes: Kernels::planes
};

// y[out(r)][o] = (accumulate ? y : 0) + W[o] . x[in(r)] for n rows.
struct MatmulJob {
  Weight w;
  ActKind kind = ActKind::kF32;     // act_kind(w.type), or kF32 for any type
  const std::byte* acts = nullptr;  // prepared rows; plain f32 rows for kF32
  int64_t act_stride = 0;           // bytes
  int n = 0;
  const int32_t* in_rows = nullptr;   // null: r
  const int32_t* out_rows = nullptr;  // null: r
  float* y = nullptr;
  int64_t y_stride = 0;  // values
  bool accumulate = false;

  const std::byte* act(int r) const { return acts + (in_rows ? in_rows[r] : r) * act_stride; }
  float* out(int r) const { return y + (out_rows ? out_rows[r] : r) * y_stride; }
};

// What an attention head needs to know of its keys.
struct KeyBlock {
  const float* keys = nullptr;  // [n][dim]
  int n = 0;                    // at most kKeyBlock
  int dim = 0;
  float scale = 0;
};
inline constexpr int kKeyBlock = 32;

struct Kernels {
  Level level;
  bool planes;        // 16-bit activations are kept as two planes of bytes, too
  int chunk_outputs;  // outputs that a matmul over many rows likes to take at once

  // Prepares one row x[n]. A block that holds an infinity or a NaN gets a NaN scale.
  void (*quantise16)(const float* x, int64_t n, const ActLayout& layout, std::byte* out);
  void (*quantise8)(const float* x, int64_t n, const ActLayout& layout, std::byte* out);

  // Outputs [begin, end) of a job; begin is a multiple of 16. memory: scratch_bytes(...) bytes,
  // aligned to 64.
  void (*matmul)(const MatmulJob& job, int64_t begin, int64_t end, std::byte* memory);
  int64_t (*scratch_bytes)(int64_t n_in);

  float (*dot)(const float* a, const float* b, int64_t n);
  void (*decode_kv_row)(const RowFormat& format, const std::byte* row, float* out);

  // One block of keys for n_heads heads: running softmax (top, sum per head) and o += weight * key.
  // q, o [n_heads][dim]; weights [n_heads * kKeyBlock] scratch.
  void (*attend)(const KeyBlock& block, int n_heads, const float* q, float* top, float* sum,
                 float* o, float* weights);
  // sum over heads of w[h] * max(0, q[h] . key), heads ascending.
  float (*index_score)(const float* q, const float* w, int n_heads, int dim, const float* key);

  void (*scale_by)(float* x, int64_t n, float factor);  // x *= factor
  void (*norm)(const float* x, const float* w, int64_t n, float factor,
               float* y);                            // x * factor * w
  void (*add)(const float* b, int64_t n, float* a);  // a += b
  // g = silu(min(g, limit)) * clamp(u, -limit, limit) * weight
  void (*swiglu)(const float* g, const float* u, int64_t n, float limit, float weight, float* out);
  // sum[c] += e = exp(s[c] - top[c]), value[c] += e * k[c]
  void (*pool_add)(const float* s, const float* k, const float* top, int64_t n, float* sum,
                   float* value);
  // x = sum_h gates[h] X[h]
  void (*hc_sum)(const float* X, const float* gates, int n_hc, int64_t d, float* x);
  // X[k] = post[k] out + sum_j comb[j][k] X[j], in place
  void (*hc_post)(const float* out, const float* post, const float* comb, int n_hc, int64_t d,
                  float* X);
};

// The kernels of an available level.
const Kernels& kernels(Level level);

// Lookup tables of IQ2_XXS, derived from the grid: values are kept 64 too large, so that they are
// bytes from 21 to 107 for signed and unsigned products alike.
struct Iq2Tables {
  alignas(64) uint64_t grid[256];     // 64 + byte
  alignas(64) uint64_t flip[128];     // 0x7F where negative: (v ^ flip) + one = 128 - v
  alignas(64) uint64_t one[128];      // 1 where negative
  alignas(64) uint8_t codes[2][256];  // elements 0..3 and 4..7, two bits each: 8, 25 or 43
  alignas(64) uint8_t signs[128];     // all eight sign bits
};
const Iq2Tables& iq2_tables();

}  // namespace narwhal::cpu
