#include "quant/search.h"

#include <algorithm>

#include "base/check.h"
#include "quant/lanes.h"

namespace narwhal::quant {
namespace {

I4 nint(F4 v) {
  I4 bits;
  v += splat(0x1.8p23f);
  static_assert(sizeof(bits) == sizeof(v));
  __builtin_memcpy(&bits, &v, sizeof(bits));
  return (bits & splat(0x007fffff)) - splat(0x00400000);
}

I4 min(I4 a, int32_t b) { return a < b ? a : splat(b); }

// Value i of up to four sub-blocks, one per lane; missing sub-blocks are zero.
void interleave(const float* x, int n, int n_lanes, F4* out) {
  for (int i = 0; i < n; ++i) {
    out[i] = F4{};
    for (int lane = 0; lane < n_lanes; ++lane) out[i][lane] = x[n * lane + i];
  }
}

// Levels of four sub-blocks as F32: round to even of inverse * (x - min), clamped to 0..n_max.
// Clamping first gives the same and keeps the rounding trick in its range.
F4 level(F4 x, F4 inverse, F4 min, F4 n_max) {
  F4 v = inverse * (x - min);
  v = v > 0 ? v : F4{};
  v = v < n_max ? v : n_max;
  return (v + splat(0x1.8p23f)) - splat(0x1.8p23f);
}

F4 deviation(F4 v, ErrorNorm norm) {
  if (norm == ErrorNorm::kSquared) return v * v;
  return v < 0 ? -v : v;
}

struct ScaleMin {
  F4 scale, min;
  F4 inverse, origin;  // the winning grid: level = round(inverse * (x - origin))
};

// Weighted least squares of x over levels l: x ~ scale * l + min, min at most 0.
struct Line {
  F4 scale, min;
  I4 solvable;
};

Line fit_line(F4 sum_w, F4 sum_x, F4 sum_l, F4 sum_l2, F4 sum_xl) {
  const F4 determinant = sum_w * sum_l2 - sum_l * sum_l;
  Line line;
  line.scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
  line.min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
  const I4 above = line.min > 0;
  line.scale = above ? sum_xl / sum_l2 : line.scale;
  line.min = above ? F4{} : line.min;
  line.solvable = determinant > 0;
  return line;
}

ScaleMin fit_lanes(const FitGrid& grid, const F4* x, const F4* w) {
  const int n = grid.n;
  const F4 n_max = splat(static_cast<float>(grid.n_max));
  F4 min = x[0], max = x[0], sum_w = w[0], sum_x = w[0] * x[0];
  for (int i = 1; i < n; ++i) {
    min = x[i] < min ? x[i] : min;
    max = x[i] > max ? x[i] : max;
    sum_w += w[i];
    sum_x += w[i] * x[i];
  }
  min = min > 0 ? F4{} : min;
  const I4 spread = max > min;

  ScaleMin best;
  best.inverse = n_max / (max - min);
  best.origin = min;
  best.scale = 1.0f / best.inverse;
  F4 best_error = {};
  for (int i = 0; i < n; ++i) {
    const F4 l = level(x[i], best.inverse, min, n_max);
    best_error += w[i] * deviation(best.scale * l + min - x[i], grid.norm);
  }
  for (int k = 0; k <= grid.n_steps; ++k) {
    const float top = grid.r_min + grid.r_delta * static_cast<float>(k) + n_max[0];
    const F4 inverse = splat(top) / (max - min);
    F4 l[kMaxSubBlock];
    F4 sum_l = {}, sum_l2 = {}, sum_xl = {};
    for (int i = 0; i < n; ++i) {
      l[i] = level(x[i], inverse, min, n_max);
      const F4 wl = w[i] * l[i];
      sum_l += wl;
      sum_l2 += wl * l[i];
      sum_xl += wl * x[i];
    }
    const Line line = fit_line(sum_w, sum_x, sum_l, sum_l2, sum_xl);
    F4 error = {};
    for (int i = 0; i < n; ++i)
      error += w[i] * deviation(line.scale * l[i] + line.min - x[i], grid.norm);
    const I4 better = line.solvable & (error < best_error);
    best.inverse = better ? inverse : best.inverse;
    best.origin = better ? min : best.origin;
    best.scale = better ? line.scale : best.scale;
    best_error = better ? error : best_error;
    min = better ? line.min : min;  // later grids start from the better minimum
  }
  best.min = min;
  // No spread: a constant at or below zero, carried by the minimum alone.
  best.scale = spread ? best.scale : F4{};
  best.inverse = spread ? best.inverse : F4{};
  best.origin = spread ? best.origin : F4{};
  return best;
}

// The scale of the best of nine grids around n_max / max.
F4 best_inverse(int n, int n_max, F4 max, const F4* x, const F4* w) {
  F4 best = splat(static_cast<float>(n_max)) / max;
  F4 best_error = {};
  const F4 scale = 1.0f / best;
  for (int i = 0; i < n; ++i) {
    const F4 v = x[i] - scale * to_float(nint(best * x[i]) & splat(255));
    best_error += w[i] * v * v;
  }
  for (int k = -4; k <= 4; ++k) {
    if (k == 0) continue;
    const float top = 0.1f * static_cast<float>(k) + static_cast<float>(n_max);
    const F4 inverse = splat(top) / max;
    const F4 trial = 1.0f / inverse;
    F4 error = {};
    for (int i = 0; i < n; ++i) {
      const F4 v = x[i] - trial * to_float(min(nint(inverse * x[i]), n_max));
      error += w[i] * v * v;
    }
    const I4 better = error < best_error;
    best_error = better ? error : best_error;
    best = better ? inverse : best;
  }
  return best;
}

// Coordinate descent on the levels, starting from the best grid.
F4 fit_scale_lanes(int n, int n_max, const F4* x, const F4* w, I4* levels) {
  F4 max = {};
  for (int i = 0; i < n; ++i) max = x[i] > max ? x[i] : max;
  const I4 alive = max >= splat(1e-15f);
  const F4 inverse = best_inverse(n, n_max, max, x, w);
  F4 sum_xl = {}, sum_l2 = {};
  for (int i = 0; i < n; ++i) {
    const I4 l = min(nint(inverse * x[i]), n_max);
    const F4 lf = to_float(l);
    sum_xl += w[i] * x[i] * lf;
    sum_l2 += w[i] * lf * lf;
    levels[i] = l & splat(255);
  }
  for (int sweep = 0; sweep < 5; ++sweep) {
    I4 changed = {};
    for (int i = 0; i < n; ++i) {
      const F4 wx = w[i] * x[i], old = to_float(levels[i]);
      F4 xl = sum_xl - wx * old, l2 = sum_l2 - w[i] * old * old;
      const I4 l = min(nint(x[i] * l2 / xl), n_max);
      const F4 lf = to_float(l);
      const I4 candidate = alive & (xl > 0) & (l2 > 0) & (l != levels[i]);
      xl += wx * lf;
      l2 += w[i] * lf * lf;
      const I4 better = candidate & (xl * xl * sum_l2 > sum_xl * sum_xl * l2);
      levels[i] = better ? l & splat(255) : levels[i];
      sum_xl = better ? xl : sum_xl;
      sum_l2 = better ? l2 : sum_l2;
      changed |= better;
    }
    if (!any(changed)) break;
  }
  for (int i = 0; i < n; ++i) levels[i] &= alive;
  const I4 solvable = alive & (sum_l2 > 0);
  return solvable ? sum_xl / sum_l2 : F4{};
}

}  // namespace

void fit_scale_min(const FitGrid& grid, int n_sub, const float* x, const float* w, uint8_t* levels,
                   float* scales, float* mins) {
  const int n = grid.n;
  NW_CHECK(n > 0 && n <= kMaxSubBlock, "n = {}", n);
  const F4 n_max = splat(static_cast<float>(grid.n_max));
  for (int first = 0; first < n_sub; first += kLanes) {
    const int n_lanes = std::min(kLanes, n_sub - first);
    F4 xs[kMaxSubBlock], ws[kMaxSubBlock];
    interleave(x + n * first, n, n_lanes, xs);
    interleave(w + n * first, n, n_lanes, ws);
    const ScaleMin best = fit_lanes(grid, xs, ws);
    for (int i = 0; i < n; ++i) {
      const F4 l = level(xs[i], best.inverse, best.origin, n_max);
      for (int lane = 0; lane < n_lanes; ++lane)
        levels[n * (first + lane) + i] = static_cast<uint8_t>(l[lane]);
    }
    for (int lane = 0; lane < n_lanes; ++lane) {
      scales[first + lane] = best.scale[lane];
      mins[first + lane] = -best.min[lane];
    }
  }
}

void fit_scale(int n, int n_max, int n_sub, const float* x, const float* w, uint8_t* levels,
               float* scales) {
  NW_CHECK(n > 0 && n <= kMaxSubBlock, "n = {}", n);
  for (int first = 0; first < n_sub; first += kLanes) {
    const int n_lanes = std::min(kLanes, n_sub - first);
    F4 xs[kMaxSubBlock], ws[kMaxSubBlock];
    I4 ls[kMaxSubBlock];
    interleave(x + n * first, n, n_lanes, xs);
    interleave(w + n * first, n, n_lanes, ws);
    const F4 scale = fit_scale_lanes(n, n_max, xs, ws, ls);
    for (int lane = 0; lane < n_lanes; ++lane) {
      scales[first + lane] = scale[lane];
      for (int i = 0; i < n; ++i)
        levels[n * (first + lane) + i] = static_cast<uint8_t>(ls[i][lane]);
    }
  }
}

void requantise(int n, int n_max, const float* x, float scale, float min, uint8_t* levels) {
  if (scale == 0) return;
  for (int i = 0; i < n; ++i)
    levels[i] = static_cast<uint8_t>(std::clamp(nint((x[i] + min) / scale), 0, n_max));
}

float sum_of_squares(const float* x, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

}  // namespace narwhal::quant
