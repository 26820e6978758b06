// KV rows in and out of their stored form (model section 6), and the compressor (section 7).
#pragma once

#include "kernels/codes.h"
#include "kernels/vectors.h"

namespace narwhal {
namespace kernels {

// Value i of a stored row; index rows stay rotated.
k_fn float row_value(k_private const Format& f, k_device const uint8_t* row, int i) {
  if (f.kind == kRowF32) return reinterpret_cast<k_device const float*>(row)[i];
  if (f.kind == kRowIndex)
    return e2m1_to_f32(uint32_t(row[i / 2]) >> 4 * (i % 2)) * e8m0_to_f32(row[f.dim / 2 + i / 32]);
  if (i < f.nope) return e4m3_to_f32(row[i]) * e8m0_to_f32(row[f.nope + i / 64]);
  k_device const uint8_t* tail = row + f.nope + f.nope / 64 + 2 * (i - f.nope);
  return bf16_to_f32(uint16_t(uint32_t(tail[0]) | uint32_t(tail[1]) << 8));
}

// Walsh-Hadamard transform of x[dim], in place, by the whole group.
k_fn void hadamard(k_private const Group& g, int dim, float norm, k_shared float* x) {
  for (int stride = 1; stride < dim; stride *= 2) {
    g.barrier();
    for (int i = int(g.index); i < dim / 2; i += int(g.size)) {
      const int low = i / stride * 2 * stride + i % stride;
      const float a = x[low], b = x[low + stride];
      x[low] = a + b;
      x[low + stride] = a - b;
    }
  }
  g.barrier();
  for (int i = int(g.index); i < dim; i += int(g.size)) x[i] *= norm;
  g.barrier();
}

k_fn uint32_t magnitude_bits(float x) { return k_bits(x) & 0x7fffffffu; }

// One value of an FP4 block on every lane; gives its code and the block's exponent.
k_fn uint32_t fp4_code(k_private const Group& g, float x, k_private uint32_t* exponent) {
  const uint32_t top = max_uint(g.simd_max(magnitude_bits(x)), 0x01c00000u);  // 6 * 2^-126
  const uint32_t e = ceil_exponent(k_float(top) * (1.0f / 6.0f));
  *exponent = e;
  return e == 255u ? 0u : f32_to_e2m1(x * inverse_scale(e));
}

// Encodes x[dim] by the whole group; x is used up.
k_fn void encode_row(k_private const Group& g, k_private const Format& f, k_shared float* x,
                     k_device uint8_t* out) {
  if (f.kind == kRowF32) {
    k_device float* to = reinterpret_cast<k_device float*>(out);
    for (int i = int(g.index); i < f.dim; i += int(g.size)) to[i] = x[i];
    return;
  }
  if (f.kind == kRowIndex) {
    hadamard(g, f.dim, f.norm, x);
    for (int block = int(g.simd); block < f.dim / 32; block += int(g.n_simds())) {
      uint32_t e;
      const uint32_t code = fp4_code(g, x[block * 32 + int(g.lane)], &e);
      const uint32_t next = g.simd_shuffle(code, g.lane + 1);
      if (g.lane % 2 == 0) out[block * 16 + int(g.lane) / 2] = uint8_t(code | next << 4);
      if (g.lane == 0) out[f.dim / 2 + block] = uint8_t(e);
    }
    return;
  }
  for (int block = int(g.simd); block < f.nope / 64; block += int(g.n_simds())) {
    const int at = block * 64 + int(g.lane);
    const uint32_t top = g.simd_max(max_uint(magnitude_bits(x[at]), magnitude_bits(x[at + 32])));
    const float amax = k_float(max_uint(top, k_bits(1e-4f)));
    const uint32_t e = ceil_exponent(amax * (1.0f / 448.0f));
    const float inverse = e == 255u ? 0.0f : inverse_scale(e);
    out[at] = uint8_t(e == 255u ? 0u : f32_to_e4m3(x[at] * inverse));
    out[at + 32] = uint8_t(e == 255u ? 0u : f32_to_e4m3(x[at + 32] * inverse));
    if (g.lane == 0) out[f.nope + block] = uint8_t(e);
  }
  k_device uint8_t* tail = out + f.nope + f.nope / 64;
  for (int i = int(g.index); i < f.dim - f.nope; i += int(g.size)) {
    const uint32_t h = f32_to_bf16(x[f.nope + i]);
    tail[2 * i] = uint8_t(h);
    tail[2 * i + 1] = uint8_t(h >> 8);
  }
}

struct EncodeRows {
  k_value int kThreads = 128;
  struct Shared {
    float row[kMaxRow];
  };
  Format format;
  k_device const float* x;
  k_device uint8_t* out;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    for (int i = int(g.index); i < format.dim; i += kThreads)
      sh->row[i] = x[int64_t(g.group) * format.dim + i];
    g.barrier();
    encode_row(g, format, sh->row, out + int64_t(g.group) * format.n_bytes);
  }
};

// Rotates u[rope] by the angles of one row of the table, by the whole group.
k_fn void rotate_tail(k_private const Group& g, int rope, k_device const float* turns,
                      k_shared float* u) {
  for (int i = 2 * int(g.index); i < rope; i += 2 * int(g.size)) {
    const float c = turns[i], s = turns[i + 1], a = u[i], b = u[i + 1];
    u[i] = a * c - b * s;
    u[i + 1] = a * s + b * c;
  }
}

// Norm, rope on the tail, encoding; one row per group. x keeps the values before encoding.
struct MakeKvRows {
  k_value int kThreads = 256;
  struct Shared {
    float row[kMaxRow];
    float part[32];
  };
  Format format;
  int rope;
  float eps;
  k_device const float* norm;
  k_device const float* table;  // [n][rope / 2][2]
  k_device float* x;
  k_device uint8_t* out;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    k_device float* row = x + int64_t(g.group) * format.dim;
    float squares = 0;
    for (int i = int(g.index); i < format.dim; i += kThreads)
      squares = k_mad(row[i], row[i], squares);
    const float scale = 1.0f / k_sqrt(group_sum(g, sh->part, squares) / float(format.dim) + eps);
    for (int i = int(g.index); i < format.dim; i += kThreads) sh->row[i] = row[i] * scale * norm[i];
    g.barrier();
    rotate_tail(g, rope, table + int64_t(g.group) * rope, sh->row + format.dim - rope);
    g.barrier();
    for (int i = int(g.index); i < format.dim; i += kThreads) row[i] = sh->row[i];
    g.barrier();
    encode_row(g, format, sh->row, out + int64_t(g.group) * format.n_bytes);
  }
};

// Rope on the tail (rope may be 0), Hadamard and the FP4 round trip of one head per simd, in place.
// dim is a power of two.
struct IndexQuery {
  k_value int kThreads = 256, kHeads = 8;
  typedef NoShared Shared;
  Format format;
  int n_heads_in_all, n_heads, rope;
  k_device const float* table;  // [n][rope / 2][2]
  k_device float* q;

  // As hadamard(), the values on the lanes of a simd.
  k_call void transform(k_private const Group& g, k_private float (&v)[kMaxHeld]) k_const {
    const int n = format.dim / kSimd;
    k_unroll for (unsigned stride = 1; stride < kSimd; stride *= 2) {
      k_unroll for (int j = 0; j < kMaxHeld; j++) {
        if (j >= n) continue;
        const float other = g.simd_shuffle(v[j], g.lane ^ stride);
        v[j] = (g.lane & stride) != 0u ? other - v[j] : v[j] + other;
      }
    }
    k_unroll for (int stride = 1; stride < kMaxHeld; stride *= 2) {
      k_unroll for (int j = 0; j < kMaxHeld; j++) {
        if ((j & stride) != 0 || (j | stride) >= n) continue;
        const float a = v[j], b = v[j | stride];
        v[j] = a + b;
        v[j | stride] = a - b;
      }
    }
    k_unroll for (int j = 0; j < kMaxHeld; j++) v[j] *= format.norm;
  }

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int head = int(g.group) * kHeads + int(g.simd), n = format.dim / kSimd;
    if (head >= n_heads_in_all) return;
    k_device float* at = q + int64_t(head) * format.dim + g.lane;
    float v[kMaxHeld];
    k_unroll for (int j = 0; j < kMaxHeld; j++) v[j] = j < n ? at[j * kSimd] : 0.0f;
    if (rope > 0) rotate_held(g, format.dim, rope, table + int64_t(head / n_heads) * rope, v);
    transform(g, v);
    k_unroll for (int j = 0; j < kMaxHeld; j++) {
      if (j >= n) continue;
      uint32_t e;
      const uint32_t code = fp4_code(g, v[j], &e);
      at[j * kSimd] = e2m1_to_f32(code) * e8m0_to_f32(e);
    }
  }
};

k_value int kNoApe = -1, kApeF32 = 0, kApeF16 = 1, kApeBf16 = 2;

// The row of a window that a row of the step closes; one group per row of the step. With a position
// bias (ape) it is a whole compressor step: s gets the bias on the way, and the rows of the step go
// into the rings, whose entries for older tokens must outlast it (KernelOps::compressor_step).
struct Compress {
  k_value int kThreads = 256, kBatch = 8;
  struct Shared {
    float row[kMaxRow];
    float part[32];
  };
  Rows b;
  int ratio, rope, overlap;
  float rms_eps;
  k_device const float* norm;
  k_device const float* freq;
  RingView k_ring, s_ring;
  PagedView out;
  int ape_type;
  k_device const uint8_t* ape;  // [ratio][width]
  k_device const float* k;      // [n][width]
  k_device const float* s;

  k_call int width() k_const { return (overlap ? 2 : 1) * out.format.dim; }

  k_call k_device const float* token_row(int r, int position, k_device const float* step,
                                         k_private const RingView& ring) k_const {
    const int first = first_position(b, r);
    if (position >= first) return step + int64_t(b.first_row[r] + position - first) * width();
    return reinterpret_cast<k_device const float*>(ring_at(ring, b.slot[r], position));
  }

  k_call float bias(int position, int channel) k_const {
    const int64_t i = int64_t(position % ratio) * width() + channel;
    if (ape_type == kApeF32) return reinterpret_cast<k_device const float*>(ape)[i];
    const uint16_t h = reinterpret_cast<k_device const uint16_t*>(ape)[i];
    return ape_type == kApeF16 ? k_f16_to_f32(h) : bf16_to_f32(h);
  }

  k_call float score(int r, int position, int channel) k_const {
    const float value = token_row(r, position, s, s_ring)[channel];
    if (ape_type == kNoApe || position < first_position(b, r)) return value;
    return value + bias(position, channel);
  }

  k_call void store(k_private const Group& g, int r, int position) k_const {
    k_device float* k_to = reinterpret_cast<k_device float*>(ring_at(k_ring, b.slot[r], position));
    k_device float* s_to = reinterpret_cast<k_device float*>(ring_at(s_ring, b.slot[r], position));
    for (int c = int(g.index); c < width(); c += kThreads) {
      k_to[c] = k[int64_t(r) * width() + c];
      s_to[c] = score(r, position, c);
    }
  }

  // Scores and values of tokens t .. of a window, beyond `end` of the last: asked for together, or
  // each would wait for the one before. With overlap the window before acts with the first half of
  // its channels, this one with the second.
  k_call void ask(int r, int w, int c, int t, int end, k_private float (&scores)[kBatch],
                  k_private float (&values)[kBatch]) k_const {
    k_unroll for (int i = 0; i < kBatch; i++) {
      const int at = min_int(t + i, end - 1);
      const int channel = (overlap && at >= w * ratio ? out.format.dim : 0) + c;
      scores[i] = score(r, at, channel);
      values[i] = token_row(r, at, k, k_ring)[channel];
    }
  }

  // Channel c of window w: the softmax average over its tokens, oldest first.
  k_call float pool(int r, int w, int c) k_const {
    const int begin = overlap && w > 0 ? (w - 1) * ratio : w * ratio, end = (w + 1) * ratio;
    float top = -k_float(0x7f800000u), sum = 0, value = 0;
    float scores[kBatch], values[kBatch];
    for (int t = begin; t < end; t += kBatch) {
      ask(r, w, c, t, end, scores, values);
      k_unroll for (int i = 0; i < kBatch; i++) top = max_float(top, scores[i]);
    }
    for (int t = begin; t < end; t += kBatch) {
      if (end - begin > kBatch) ask(r, w, c, t, end, scores, values);
      k_unroll for (int i = 0; i < kBatch; i++) {
        if (t + i >= end) continue;
        const float weight = k_exp(scores[i] - top);
        sum += weight;
        value = k_mad(weight, values[i], value);
      }
    }
    return value / sum;
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int r = int(g.group), position = b.position[r], d = out.format.dim;
    if (ape_type != kNoApe) store(g, r, position);
    if ((position + 1) % ratio != 0) return;
    const int w = position / ratio;
    float squares = 0;
    for (int c = int(g.index); c < d; c += kThreads) {
      const float v = pool(r, w, c);
      sh->row[c] = v;
      squares = k_mad(v, v, squares);
    }
    const float scale = 1.0f / k_sqrt(group_sum(g, sh->part, squares) / float(d) + rms_eps);
    for (int c = int(g.index); c < d; c += kThreads) sh->row[c] = sh->row[c] * scale * norm[c];
    g.barrier();
    for (int i = int(g.index); i < rope / 2; i += kThreads) {  // at the window's first token
      float cosine, sine;
      cos_sin(float(w * ratio) * freq[i], &cosine, &sine);
      k_shared float* u = sh->row + d - rope + 2 * i;
      const float x = u[0], y = u[1];
      u[0] = x * cosine - y * sine;
      u[1] = x * sine + y * cosine;
    }
    g.barrier();
    encode_row(g, out.format, sh->row, paged_at(out, b.slot[r], w));
  }
};

}  // namespace kernels
}  // namespace narwhal
