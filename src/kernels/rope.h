// Angles of the rotary embedding (model section 5).
#pragma once

#include "kernels/views.h"

namespace narwhal {
namespace kernels {

// cos and sin of |x| up to some millions, to the last bit or two: x - n pi/2 by three parts of
// pi/2, exact where it matters because each step is one fused multiply-add, then Taylor on +-pi/4.
k_fn void cos_sin(float x, k_private float* c, k_private float* s) {
  const float turns = x * 0.636619772f;
  const int n = int(turns < 0 ? turns - 0.5f : turns + 0.5f);
  const float k = -float(n);
  float r = k_fma(k, 1.57079637f, x);  // exact
  const float middle = k_fma(k, -4.37113883e-8f, r);
  // What rounding took from `middle`, and the last part.
  const float low = k_fma(k, -4.37113883e-8f, r - middle) - k * 1.71512451e-15f;
  r = middle;
  const float r2 = r * r;
  float sine = k_fma(r2, 2.75573192e-6f, -1.98412698e-4f);
  sine = k_fma(r2, sine, 8.33333333e-3f);
  sine = k_fma(r2, sine, -1.66666667e-1f);
  float cosine = k_fma(r2, -2.75573192e-7f, 2.48015873e-5f);
  cosine = k_fma(r2, cosine, -1.38888889e-3f);
  cosine = k_fma(r2, cosine, 4.16666667e-2f);
  cosine = k_fma(r2, cosine, -0.5f);
  const float tail = k_fma(r * r2, sine, low);  // sin(r + low) = r + tail
  const float sr = r + tail, cr = 1.0f + k_fma(r2, cosine, -low * r);
  const int quarter = n & 3;
  const float a = quarter % 2 == 0 ? cr : sr, b = quarter % 2 == 0 ? sr : cr;
  *c = quarter == 1 || quarter == 2 ? -a : a;
  *s = quarter >= 2 ? -b : b;
}

// Dims of a head that a lane may hold: dim i is value i / 32 of lane i mod 32.
k_value int kMaxHeld = kMaxRow / kSimd;

// Rotates the last `rope` of a head's dims, whose pairs are neighbouring lanes.
k_fn void rotate_held(k_private const Group& g, int dim, int rope, k_device const float* turns,
                      k_private float (&v)[kMaxHeld]) {
  k_unroll for (int j = 0; j < kMaxHeld; j++) {
    if ((j + 1) * kSimd <= dim - rope || j * kSimd >= dim) continue;
    const float other = g.simd_shuffle(v[j], g.lane ^ 1u);
    const int i = j * kSimd + int(g.lane) - (dim - rope);
    if (i < 0 || i >= rope) continue;
    const float c = turns[i & ~1], s = turns[i | 1];
    v[j] = (i & 1) == 0 ? v[j] * c - other * s : other * s + v[j] * c;
  }
}

// out [n][rope / 2][2] = (cos, sin) of f32(position) * freq, one thread per pair.
struct RopeTable {
  k_value int kThreads = 256;
  struct Shared {
    int unused;
  };
  Rows b;
  k_device const float* freq;
  int rope;
  k_device float* out;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int64_t at = int64_t(g.group) * kThreads + g.index;
    if (at >= int64_t(b.n) * (rope / 2)) return;
    const int r = int(at / (rope / 2)), i = int(at % (rope / 2));
    float c, s;
    cos_sin(float(b.position[r]) * freq[i], &c, &s);
    out[2 * at] = c;
    out[2 * at + 1] = s;
  }
};

}  // namespace kernels
}  // namespace narwhal
