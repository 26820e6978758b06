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

// Rows and columns of m in turn, columns first. What the iterations change are factors of whole
// rows and columns: a lane holds the matrix and all factors, which costs fewer steps that wait for
// each other than lanes that exchange sums.
template <int H>
k_fn void sinkhorn_factors(k_private const float (&m)[H][H], int iterations, float eps,
                           k_private float (&row)[H], k_private float (&column)[H]) {
  k_unroll for (int i = 0; i < H; i++) row[i] = column[i] = 1;
  for (int iteration = 0; iteration < iterations; iteration++) {
    k_unroll for (int r = 0; r < H; r++) {
      if (iteration == 0) continue;
      float s = 0;
      k_unroll for (int c = 0; c < H; c++) s = k_mad(m[r][c], column[c], s);
      row[r] *= k_reciprocal(k_mad(row[r], s, eps));
    }
    k_unroll for (int c = 0; c < H; c++) {
      float s = 0;
      k_unroll for (int r = 0; r < H; r++) s = k_mad(m[r][c], row[r], s);
      column[c] *= k_reciprocal(k_mad(column[c], s, eps));
    }
  }
}

// comb[j][k], from v on lane j * H + k: softmax of rows plus eps, then the iterations.
template <int H>
k_fn float sinkhorn(k_private const Group& g, k_private const HcView& p, float v) {
  const int lane = min_int(int(g.lane), H * H - 1), j = lane / H;
  float top = v, sum = 0;
  k_unroll for (int i = 0; i < H; i++) top = max_float(top, g.simd_shuffle(v, unsigned(j * H + i)));
  v = k_exp(v - top);
  k_unroll for (int i = 0; i < H; i++) sum += g.simd_shuffle(v, unsigned(j * H + i));
  v = v / sum + p.hc_eps;
  float m[H][H], row[H], column[H];
  k_unroll for (int r = 0; r < H; r++) k_unroll for (int c = 0; c < H; c++) m[r][c] =
      g.simd_shuffle(v, unsigned(r * H + c));
  sinkhorn_factors<H>(m, p.sinkhorn_iterations, p.hc_eps, row, column);
  k_unroll for (int r = 0; r < H; r++) k_unroll for (int c = 0; c < H; c++) if (lane == r * H + c)
      v = m[r][c] * row[r] * column[c];
  return v;
}

k_fn float sinkhorn_of(k_private const Group& g, k_private const HcView& p, float v) {
  switch (p.n_hc) {  // kMaxStreams
    case 1:
      return sinkhorn<1>(g, p, v);
    case 2:
      return sinkhorn<2>(g, p, v);
    case 3:
      return sinkhorn<3>(g, p, v);
    case 4:
      return sinkhorn<4>(g, p, v);
    default:
      return sinkhorn<5>(g, p, v);
  }
}

k_fn float pre_gate(float eps, float mix, float base, float scale) {
  return sigmoid(mix * scale + base) + eps;
}

// Gates of one row, by one simd: mixes -> mixes, in place; all of them device or shared memory.
template <class M, class P>
k_fn void make_gates(k_private const Group& g, k_private const HcView& p, P base, P scale,
                     float inverse_rms, M m) {
  const int H = p.n_hc, lane = int(g.lane);
  if (lane < H) m[lane] = pre_gate(p.hc_eps, m[lane] * inverse_rms, base[lane], scale[0]);
  if (p.n_mixes == H) return;
  if (lane >= H && lane < 2 * H)
    m[lane] = 2.0f * sigmoid(m[lane] * inverse_rms * scale[1] + base[lane]);
  const int at = 2 * H + lane;
  const bool mine = lane < H * H;
  const float v = sinkhorn_of(g, p, mine ? m[at] * inverse_rms * scale[2] + base[at] : 0.0f);
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
    if (g.simd == 0) make_gates(g, p, p.base, p.scale, scale, mixes + int64_t(g.group) * p.n_mixes);
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

k_value int kHcColumns = 64;                                 // of a slice
k_value int kHcMixes = kMaxStreams * (2 + kMaxStreams) + 1;  // and the sum of squares

// First half of hc_pre and hc_head, and of hc_next with the hc_post before it: for kColumns columns
// of every stream, the products with every row of fn and the sum of squares, of kRows rows, which
// share the weights. partial [n][n_mixes + 1][slices].
template <class C, int kRows>
struct HcMix {
  k_value int kThreads = 256, kSimds = 8, kColumns = kHcColumns;
  k_value int kEach = (kHcMixes + kSimds - 1) / kSimds;  // of a simd
  struct Shared {
    typename C::Table table;
    alignas(16) float streams[kRows * kMaxStreams * kColumns];
  };
  Matrix fn;
  int64_t d;
  int n, n_hc, slices;
  k_device const float* out;    // of the sublayer before, or null: X is as it should be
  k_device const float* gates;  // of that sublayer, [n][pre | post | comb]
  k_device float* X;
  k_device float* partial;

  k_call void load_streams(k_private const Group& g, k_shared Shared* sh, int r0, int n_rows,
                           int begin, int count) k_const {
    for (int at = int(g.index); at < n_rows * kColumns; at += kThreads) {
      const int i = at % kColumns, row = at / kColumns, r = r0 + row;
      if (i >= count) continue;
      k_device float* streams = X + int64_t(r) * n_hc * d + begin + i;
      float next[kMaxStreams];
      if (out)
        next_streams(n_hc, d, gates + r * n_hc * (2 + n_hc), out[r * d + begin + i], streams, next);
      k_unroll for (int h = 0; h < kMaxStreams; h++) {
        if (h >= n_hc) continue;
        if (out)
          streams[h * d] = next[h];
        else
          next[h] = streams[h * d];
        sh->streams[(row * kMaxStreams + h) * kColumns + i] = next[h];
      }
    }
    g.barrier();
  }

  // Of a simd's outputs: unit u of the slice, `units` of each stream.
  k_call void load_weights(k_private const Group& g, int u, int begin, int units,
                           k_private typename C::Raw (&raw)[kEach]) k_const {
    if (u >= n_hc * units) return;
    const int at = (int(d) * (u / units) + begin) / C::kUnit + u % units;
    k_unroll for (int e = 0; e < kEach; e++) {
      const int o = e * kSimds + int(g.simd);
      const Planes row = planes_of<C>(fn, min_int(o, int(fn.n_out) - 1));
      C::load(row, at, raw[e]);
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int slice = int(g.group) % slices, r0 = int(g.group) / slices * kRows;
    const int begin = slice * kColumns, count = min_int(kColumns, int(d) - begin);
    const int n_rows = min_int(kRows, n - r0), n_mixes = int(fn.n_out);
    const int units = count / C::kUnit;  // of a stream
    // A simd's outputs at a time: a lane's streams stay in registers for all of them. Weights are
    // on their way while the streams come.
    typename C::Raw raw[kEach];
    load_weights(g, int(g.lane), begin, units, raw);
    load_streams(g, sh, r0, n_rows, begin, count);
    float sum[kEach][kRows];
    k_unroll for (int e = 0; e < kEach; e++) k_unroll for (int row = 0; row < kRows; row++)
        sum[e][row] = 0;
    for (int u = int(g.lane); u < n_hc * units; u += kSimd) {
      const int h = u / units, column = u % units * C::kUnit;
      float v[kRows][C::kRun];
      k_unroll for (int row = 0; row < kRows; row++) k_unroll for (int i = 0; i < C::kRun; i += 4) {
        const Word4 four = k_load4(sh->streams + (row * kMaxStreams + h) * kColumns + column + i);
        k_unroll for (int j = 0; j < 4; j++) v[row][i + j] = k_float(four.v[j]);
      }
      k_unroll for (int e = 0; e < kEach; e++) {
        const int o = e * kSimds + int(g.simd);
        if (o > n_mixes) continue;
        Run run;
        C::run(raw[e], 0, &sh->table, run);
        k_unroll for (int row = 0; row < kRows; row++) k_unroll for (int i = 0; i < C::kRun; i++)
            sum[e][row] = k_mad(o < n_mixes ? run.q[i] : v[row][i], v[row][i], sum[e][row]);
      }
      load_weights(g, u + kSimd, begin, units, raw);
    }
    k_unroll for (int e = 0; e < kEach; e++) {
      const int o = e * kSimds + int(g.simd);
      if (o > n_mixes) continue;
      k_unroll for (int row = 0; row < kRows; row++) {
        const float all = g.simd_sum(sum[e][row]);
        if (g.lane == 0 && row < n_rows)
          partial[(int64_t(r0 + row) * (n_mixes + 1) + o) * slices + slice] = all;
      }
    }
  }
};

// Second half: sums of the slices, gates, x = sum_h pre[h] X[h], and its norm. One group per row.
// The streams are on their way while the mixes are summed; a thread holds four columns of each. The
// last simd makes the gates, which are for later, while the others go on with the pre gates, which
// every one of them makes for itself.
struct HcFinish {
  k_value int kThreads = 544, kResident = 1, kWorkers = 512, kHeld = 2,
              kMaxWidth = 4 * kHeld * kWorkers;
  // Sums of a simd, of so many slices on every lane.
  k_value int kSimds = kThreads / kSimd, kEach = (kHcMixes + kSimds - 1) / kSimds;
  k_value int kSlices = (kMaxWidth / kHcColumns + kSimd - 1) / kSimd;
  struct Shared {
    float part[32];
    float sums[64], mixes[64], base[64], scale[3];
  };
  HcView p;
  int slices;
  k_device const float* partial;
  k_device const float* X;
  k_device const float* norm;
  k_device float* gates;  // [n][n_mixes]
  k_device float* x;      // [n][d], d a multiple of 4, at most kMaxWidth

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int r = int(g.group), n = p.n_mixes, d = int(p.d);
    const bool works = int(g.index) < kWorkers;
    // What is needed first is asked for first: the streams are 64 KiB for one multiprocessor.
    k_device const float* in = partial + int64_t(r) * slices * (n + 1);
    float sums[kEach][kSlices];
    k_unroll for (int e = 0; e < kEach; e++) k_unroll for (int i = 0; i < kSlices; i++) {
      const int o = e * kSimds + int(g.simd), s = i * kSimd + int(g.lane);
      sums[e][i] = o <= n && s < slices ? in[o * slices + s] : 0.0f;
    }
    k_device const float* streams = X + int64_t(r) * p.n_hc * d;
    Word4 held[kHeld][kMaxStreams];
    k_unroll for (int i = 0; i < kHeld; i++) k_unroll for (int h = 0; h < kMaxStreams; h++) {
      const int column = 4 * (i * kWorkers + int(g.index));
      if (h >= p.n_hc || column >= d || !works) continue;
      const Word4 four = k_load4(streams + h * d + column);
      k_unroll for (int j = 0; j < 4; j++) held[i][h].v[j] = four.v[j];
    }
    // What comes from far is asked for at once: the norm, too.
    Word4 weight[kHeld];
    k_unroll for (int i = 0; i < kHeld; i++) {
      const int column = 4 * (i * kWorkers + int(g.index));
      const Word4 four = k_load4(norm + (column < d && works ? column : 0));
      k_unroll for (int j = 0; j < 4; j++) weight[i].v[j] = four.v[j];
    }
    if (!works) {
      for (int o = int(g.lane); o < n; o += kSimd) sh->base[o] = p.base[o];
      if (g.lane < (n == p.n_hc ? 1u : 3u)) sh->scale[g.lane] = p.scale[g.lane];
    }
    k_unroll for (int e = 0; e < kEach; e++) {
      const int o = e * kSimds + int(g.simd);
      float sum = 0;
      k_unroll for (int i = 0; i < kSlices; i++) sum += sums[e][i];
      sum = g.simd_sum(sum);
      if (g.lane == 0 && o <= n) sh->sums[o] = sum;
    }
    g.barrier();
    const float inverse_rms = 1.0f / k_sqrt(sh->sums[n] / float(p.n_hc * p.d) + p.rms_eps);
    float value[kHeld][4], squares = 0;
    if (!works) {
      for (int o = int(g.lane); o < n; o += kSimd) sh->mixes[o] = sh->sums[o];
      g.simd_barrier();
      make_gates(g, p, &sh->base[0], &sh->scale[0], inverse_rms, &sh->mixes[0]);
      g.simd_barrier();
      for (int o = int(g.lane); o < n; o += kSimd) gates[int64_t(r) * n + o] = sh->mixes[o];
    } else {
      const int lane = min_int(int(g.lane), p.n_hc - 1);
      const float mine =
          pre_gate(p.hc_eps, sh->sums[lane] * inverse_rms, sh->base[lane], sh->scale[0]);
      float pre[kMaxStreams];
      k_unroll for (int h = 0; h < kMaxStreams; h++) pre[h] = g.simd_shuffle(mine, unsigned(h));
      k_unroll for (int i = 0; i < kHeld; i++) k_unroll for (int j = 0; j < 4; j++) {
        value[i][j] = 0;
        k_unroll for (int h = 0; h < kMaxStreams; h++) if (h < p.n_hc) value[i][j] =
            k_mad(pre[h], k_float(held[i][h].v[j]), value[i][j]);
        if (4 * (i * kWorkers + int(g.index)) < d)
          squares = k_mad(value[i][j], value[i][j], squares);
      }
    }
    const float scale = 1.0f / k_sqrt(group_sum(g, sh->part, squares) / float(p.d) + p.rms_eps);
    k_unroll for (int i = 0; i < kHeld; i++) {
      const int column = 4 * (i * kWorkers + int(g.index));
      if (column >= d || !works) continue;
      k_unroll for (int j = 0; j < 4; j++) x[int64_t(r) * d + column + j] =
          value[i][j] * scale * k_float(weight[i].v[j]);
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
