// Hyper-connections (model section 3).
#pragma once

#include "kernels/matvec.h"
#include "kernels/vectors.h"

namespace narwhal {
namespace kernels {

k_value int kMaxStreams = 5;  // comb fits a simd

struct HcView {
  k_device const float* base;
  k_device const float* scale;
  int n_hc, n_mixes, sinkhorn_iterations;  // n_mixes = n_hc: the head, no post, no comb
  int64_t d;
  float hc_eps, rms_eps;
};

k_fn float sigmoid(float v) { return 1.0f / (1.0f + k_exp(-v)); }

// comb[j][k] on lane j * H + k: softmax of rows plus eps, columns; then rows and columns in turn.
k_fn float sinkhorn(k_private const Group& g, k_private const HcView& p, float v) {
  const int H = p.n_hc, lane = min_int(int(g.lane), H * H - 1), j = lane / H, k = lane % H;
  float top = v, sum = 0;
  for (int i = 0; i < H; i++) top = max_float(top, g.simd_shuffle(v, unsigned(j * H + i)));
  v = k_exp(v - top);
  for (int i = 0; i < H; i++) sum += g.simd_shuffle(v, unsigned(j * H + i));
  v = v / sum + p.hc_eps;
  for (int iteration = 0; iteration < p.sinkhorn_iterations; iteration++) {
    if (iteration > 0) {
      sum = p.hc_eps;
      for (int i = 0; i < H; i++) sum += g.simd_shuffle(v, unsigned(j * H + i));
      v /= sum;
    }
    sum = p.hc_eps;
    for (int i = 0; i < H; i++) sum += g.simd_shuffle(v, unsigned(i * H + k));
    v /= sum;
  }
  return v;
}

// Gates of one row, by one simd: mixes -> mixes, in place; may be device or shared memory.
template <class P>
k_fn void make_gates(k_private const Group& g, k_private const HcView& p, float inverse_rms, P m) {
  const int H = p.n_hc, lane = int(g.lane);
  if (lane < H) m[lane] = sigmoid(m[lane] * inverse_rms * p.scale[0] + p.base[lane]) + p.hc_eps;
  if (p.n_mixes == H) return;
  if (lane >= H && lane < 2 * H)
    m[lane] = 2.0f * sigmoid(m[lane] * inverse_rms * p.scale[1] + p.base[lane]);
  const int at = 2 * H + lane;
  const bool mine = lane < H * H;
  const float v = sinkhorn(g, p, mine ? m[at] * inverse_rms * p.scale[2] + p.base[at] : 0.0f);
  if (mine) m[at] = v;
}

struct HcGates {
  k_value int kThreads = 256;
  typedef PartShared Shared;
  HcView p;
  k_device const float* X;
  k_device float* mixes;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int64_t n = p.n_hc * p.d;
    k_device const float* x = X + g.group * n;
    float squares = 0;
    for (int64_t i = g.index; i < n; i += kThreads) squares = k_mad(x[i], x[i], squares);
    const float scale = 1.0f / k_sqrt(group_sum(g, sh->part, squares) / float(n) + p.rms_eps);
    if (g.simd == 0) make_gates(g, p, scale, mixes + int64_t(g.group) * p.n_mixes);
  }
};

// x[r] = sum_h gates[r][h] X[r][h].
struct HcSum {
  k_value int kThreads = 256;
  typedef NoShared Shared;
  int64_t n, d;
  int n_hc, stride;
  k_device const float* X;
  k_device const float* gates;
  k_device float* x;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int64_t at = int64_t(g.group) * kThreads + g.index;
    if (at >= n * d) return;
    const int64_t r = at / d, i = at % d;
    float sum = 0;
    for (int h = 0; h < n_hc; h++)
      sum = k_mad(gates[r * stride + h], X[(r * n_hc + h) * d + i], sum);
    x[at] = sum;
  }
};

// The streams at one column after a sublayer: X[k] = post[k] out + sum_j comb[j][k] X[j]. `gates`
// are those of the row, `streams` its column, of stride d.
k_fn void next_streams(int n_hc, int64_t d, k_device const float* gates, float out,
                       k_device const float* streams, k_private float* next) {
  k_device const float* post = gates + n_hc;
  k_device const float* comb = post + n_hc;
  float old[kMaxStreams];
  for (int j = 0; j < kMaxStreams; j++) old[j] = j < n_hc ? streams[j * d] : 0;
  for (int k = 0; k < kMaxStreams; k++) {
    if (k >= n_hc) break;
    next[k] = post[k] * out;
    for (int j = 0; j < kMaxStreams; j++)
      if (j < n_hc) next[k] = k_mad(comb[j * n_hc + k], old[j], next[k]);
  }
}

// In place on X, one thread per column.
struct HcPost {
  k_value int kThreads = 256;
  typedef NoShared Shared;
  int64_t n, d;
  int n_hc;
  k_device const float* out;
  k_device const float* gates;  // [n][pre | post | comb]
  k_device float* X;

  k_call void operator()(k_private const Group& g, k_shared Shared*) k_const {
    const int64_t at = int64_t(g.group) * kThreads + g.index;
    if (at >= n * d) return;
    const int64_t r = at / d, i = at % d;
    k_device float* streams = X + r * n_hc * d + i;
    float next[kMaxStreams];
    next_streams(n_hc, d, gates + r * n_hc * (2 + n_hc), out[at], streams, next);
    for (int k = 0; k < n_hc; k++) streams[k * d] = next[k];
  }
};

// First half of hc_pre and hc_head, and of hc_next with the hc_post before it: for kColumns columns
// of every stream, the products with every row of fn and the sum of squares.
// partial [n][slices][n_mixes + 1].
template <class C>
struct HcMix {
  k_value int kThreads = 256, kColumns = 128;
  struct Shared {
    typename C::Table table;
    float streams[kMaxStreams * kColumns];
  };
  Matrix fn;
  int64_t d;
  int n_hc, slices;
  k_device const float* out;    // of the sublayer before, or null: X is as it should be
  k_device const float* gates;  // of that sublayer, [n][pre | post | comb]
  k_device float* X;
  k_device float* partial;

  k_call void load_streams(k_private const Group& g, k_shared Shared* sh, int64_t r, int begin,
                           int count) k_const {
    for (int i = int(g.index); i < count; i += kThreads) {
      k_device float* streams = X + r * n_hc * d + begin + i;
      float next[kMaxStreams];
      if (out)
        next_streams(n_hc, d, gates + r * n_hc * (2 + n_hc), out[r * d + begin + i], streams, next);
      for (int h = 0; h < kMaxStreams; h++) {
        if (h >= n_hc) break;
        if (out)
          streams[h * d] = next[h];
        else
          next[h] = streams[h * d];
        sh->streams[h * kColumns + i] = next[h];
      }
    }
    g.barrier();
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int r = int(g.group) / slices, begin = int(g.group) % slices * kColumns;
    const int count = min_int(kColumns, int(d) - begin), n_mixes = int(fn.n_out);
    const int units = count / C::kUnit;  // of a stream
    load_streams(g, sh, r, begin, count);
    k_device float* to = partial + int64_t(g.group) * (n_mixes + 1);
    for (int o = int(g.simd); o <= n_mixes; o += int(g.n_simds())) {
      float sum = 0;
      for (int u = int(g.lane); u < n_hc * units; u += kSimd) {
        const int h = u / units, column = u % units * C::kUnit;
        Run run;
        typename C::Raw raw;
        if (o < n_mixes) {
          C::load(fn, o, (int(d) * h + begin + column) / C::kUnit, raw);
          C::run(raw, 0, &sh->table, run);
        }
        for (int i = 0; i < C::kRun; i++) {
          const float v = sh->streams[h * kColumns + column + i];
          sum = k_mad(o < n_mixes ? run.q[i] : v, v, sum);
        }
      }
      sum = g.simd_sum(sum);
      if (g.lane == 0) to[o] = sum;
    }
  }
};

// Second half: sums of the slices, gates, x = sum_h pre[h] X[h], and its norm. One group per row.
struct HcFinish {
  k_value int kThreads = 512;
  struct Shared {
    float part[32];
    float mixes[64];
  };
  HcView p;
  int slices;
  k_device const float* partial;
  k_device const float* X;
  k_device const float* norm;
  k_device float* gates;  // [n][n_mixes]
  k_device float* x;      // [n][d]

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int r = int(g.group), n = p.n_mixes;
    k_device const float* in = partial + int64_t(r) * slices * (n + 1);
    for (int o = int(g.simd); o <= n; o += int(g.n_simds())) {
      float sum = 0;
      for (int s = int(g.lane); s < slices; s += kSimd) sum += in[s * (n + 1) + o];
      sum = g.simd_sum(sum);
      if (g.lane == 0) sh->mixes[o] = sum;
    }
    g.barrier();
    if (g.simd == 0) {
      const float scale = 1.0f / k_sqrt(sh->mixes[n] / float(p.n_hc * p.d) + p.rms_eps);
      make_gates(g, p, scale, &sh->mixes[0]);
    }
    g.barrier();
    for (int o = int(g.index); o < n; o += kThreads) gates[int64_t(r) * n + o] = sh->mixes[o];
    k_device const float* streams = X + r * p.n_hc * p.d;
    k_device float* out = x + r * p.d;
    float squares = 0;
    for (int i = int(g.index); i < p.d; i += kThreads) {
      float sum = 0;
      for (int h = 0; h < p.n_hc; h++) sum = k_mad(sh->mixes[h], streams[h * p.d + i], sum);
      out[i] = sum;
      squares = k_mad(sum, sum, squares);
    }
    const float scale = 1.0f / k_sqrt(group_sum(g, sh->part, squares) / float(p.d) + p.rms_eps);
    for (int i = int(g.index); i < p.d; i += kThreads) out[i] = out[i] * scale * norm[i];
  }
};

}  // namespace kernels
}  // namespace narwhal
