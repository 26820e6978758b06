// The searches against a plain one-value-at-a-time reading of their definition, bit for bit.
#include "quant/search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

namespace narwhal::quant {
namespace {

struct SlowFit {
  std::vector<uint8_t> levels;
  float scale, min;
};

float deviation(float v, ErrorNorm norm) {
  return norm == ErrorNorm::kAbsolute ? std::fabs(v) : v * v;
}

SlowFit slow_scale_min(const FitGrid& grid, const float* x, const float* w) {
  const int n = grid.n;
  float min = *std::min_element(x, x + n);
  const float max = *std::max_element(x, x + n);
  float sum_w = 0, sum_x = 0;
  for (int i = 0; i < n; ++i) sum_w += w[i], sum_x += w[i] * x[i];
  if (min > 0) min = 0;
  SlowFit fit{std::vector<uint8_t>(n), 0, -min};
  if (max == min) return fit;
  const auto levels = [&](float inverse) {
    std::vector<uint8_t> l(n);
    for (int i = 0; i < n; ++i)
      l[i] = static_cast<uint8_t>(std::clamp(nint(inverse * (x[i] - min)), 0, grid.n_max));
    return l;
  };
  const auto error = [&](const std::vector<uint8_t>& l, float scale, float m) {
    float sum = 0;
    for (int i = 0; i < n; ++i) sum += w[i] * deviation(scale * l[i] + m - x[i], grid.norm);
    return sum;
  };
  const float first = static_cast<float>(grid.n_max) / (max - min);
  fit.scale = 1 / first;
  fit.levels = levels(first);
  float best = error(fit.levels, fit.scale, min);
  for (int k = 0; k <= grid.n_steps; ++k) {
    const float top =
        grid.r_min + grid.r_delta * static_cast<float>(k) + static_cast<float>(grid.n_max);
    const std::vector<uint8_t> l = levels(top / (max - min));
    float sl = 0, sl2 = 0, sxl = 0;
    for (int i = 0; i < n; ++i) {
      sl += w[i] * l[i];
      sl2 += w[i] * l[i] * l[i];
      sxl += w[i] * l[i] * x[i];
    }
    const float determinant = sum_w * sl2 - sl * sl;
    if (!(determinant > 0)) continue;
    float scale = (sum_w * sxl - sum_x * sl) / determinant;
    float m = (sl2 * sum_x - sl * sxl) / determinant;
    if (m > 0) m = 0, scale = sxl / sl2;
    const float e = error(l, scale, m);
    if (!(e < best)) continue;
    best = e;
    fit.levels = l;
    fit.scale = scale;
    min = m;
  }
  fit.min = -min;
  return fit;
}

SlowFit slow_scale(int n, int n_max, const float* x, const float* w) {
  SlowFit fit{std::vector<uint8_t>(n), 0, 0};
  const float max = std::max(0.0f, *std::max_element(x, x + n));
  if (max < 1e-15f) return fit;
  const float top = static_cast<float>(n_max);
  float inverse = top / max, best = 0;
  const float scale = 1 / inverse;
  for (int i = 0; i < n; ++i) {
    const float v = x[i] - scale * static_cast<uint8_t>(nint(inverse * x[i]));
    best += w[i] * v * v;
  }
  for (int k = -4; k <= 4; ++k) {
    if (k == 0) continue;
    const float trial = (0.1f * static_cast<float>(k) + top) / max, trial_scale = 1 / trial;
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const int l = std::min(n_max, nint(trial * x[i]));
      const float v = x[i] - trial_scale * static_cast<float>(l);
      error += w[i] * v * v;
    }
    if (error < best) best = error, inverse = trial;
  }
  float sxl = 0, sl2 = 0;
  for (int i = 0; i < n; ++i) {
    const int l = std::min(n_max, nint(inverse * x[i]));
    sxl += w[i] * x[i] * static_cast<float>(l);
    sl2 += w[i] * static_cast<float>(l) * static_cast<float>(l);
    fit.levels[i] = static_cast<uint8_t>(l);
  }
  for (int sweep = 0, changed = 1; sweep < 5 && changed; ++sweep) {
    changed = 0;
    for (int i = 0; i < n; ++i) {
      float a = sxl - w[i] * x[i] * fit.levels[i];
      float b = sl2 - w[i] * fit.levels[i] * fit.levels[i];
      if (!(a > 0 && b > 0)) continue;
      const int l = std::min(n_max, nint(x[i] * b / a));
      if (l == fit.levels[i]) continue;
      a += w[i] * x[i] * static_cast<float>(l);
      b += w[i] * static_cast<float>(l) * static_cast<float>(l);
      if (a * a * sl2 > sxl * sxl * b) {
        fit.levels[i] = static_cast<uint8_t>(l);
        sxl = a;
        sl2 = b;
        changed = 1;
      }
    }
  }
  fit.scale = sl2 > 0 ? sxl / sl2 : 0;
  return fit;
}

// Sub-blocks of many shapes: signed, positive, negative, constant, zero, one outlier, sparse.
std::vector<float> sample(std::mt19937& random, int n, int kind) {
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  if (kind == 1)
    for (float& v : x) v = std::fabs(v) + 0.1f;
  if (kind == 2)
    for (float& v : x) v = -std::fabs(v);
  if (kind == 3) std::fill(x.begin(), x.end(), normal(random));
  if (kind == 4) std::fill(x.begin(), x.end(), 0.0f);
  if (kind == 5) x[random() % n] = 40;
  if (kind == 6)
    for (float& v : x) v = random() % 4 ? 0 : v;
  if (kind == 7)
    for (float& v : x) v *= 1e-20f;
  return x;
}

std::vector<float> join(const std::vector<std::vector<float>>& parts) {
  std::vector<float> all;
  for (const auto& p : parts) all.insert(all.end(), p.begin(), p.end());
  return all;
}

uint32_t bits(float v) { return std::bit_cast<uint32_t>(v); }

TEST(Search, NintRoundsHalfToEven) {
  const std::pair<float, int> cases[] = {{0.5f, 0},
                                         {1.5f, 2},
                                         {-0.5f, 0},
                                         {-1.5f, -2},
                                         {2.49f, 2},
                                         {-2.51f, -3},
                                         {4194303.0f, 4194303},
                                         {-4194303.0f, -4194303}};
  for (const auto& [v, n] : cases) EXPECT_EQ(nint(v), n);
}

TEST(Search, ScaleAndMinMatchThePlainReading) {
  const FitGrid grids[] = {{32, 15, -1.0f, 0.1f, 20, ErrorNorm::kSquared},
                           {32, 15, -0.9f, 0.05f, 36, ErrorNorm::kSquared},
                           {16, 3, -0.5f, 0.1f, 15, ErrorNorm::kAbsolute},
                           {16, 3, -0.9f, 0.05f, 36, ErrorNorm::kSquared}};
  std::mt19937 random(1);
  std::uniform_real_distribution<float> weight(0.0f, 1.0f);
  for (const FitGrid& grid : grids)
    for (int trial = 0; trial < 200; ++trial) {
      const int n = grid.n, n_sub = 1 + trial % 9;
      std::vector<std::vector<float>> parts;
      for (int s = 0; s < n_sub; ++s) parts.push_back(sample(random, n, (trial + s) % 8));
      const std::vector<float> x = join(parts);
      std::vector<float> w(x.size()), scales(n_sub), mins(n_sub);
      for (float& v : w) v = trial % 5 == 0 && random() % 3 == 0 ? 0 : weight(random);
      std::vector<uint8_t> levels(x.size());
      fit_scale_min(grid, n_sub, x.data(), w.data(), levels.data(), scales.data(), mins.data());
      for (int s = 0; s < n_sub; ++s) {
        const SlowFit slow = slow_scale_min(grid, x.data() + n * s, w.data() + n * s);
        ASSERT_EQ(bits(scales[s]), bits(slow.scale)) << "kind " << (trial + s) % 8;
        ASSERT_EQ(mins[s], slow.min) << "kind " << (trial + s) % 8;
        ASSERT_TRUE(std::equal(slow.levels.begin(), slow.levels.end(), levels.begin() + n * s));
      }
    }
}

TEST(Search, ScaleMatchesThePlainReading) {
  struct {
    int n, n_max;
    bool flip;  // one negative value per 8, as IQ2_XXS has them
  } const shapes[] = {{8, 63, false}, {16, 15, false}, {32, 4, true}};
  std::mt19937 random(2);
  std::uniform_real_distribution<float> weight(0.0f, 1.0f);
  for (const auto& shape : shapes)
    for (int trial = 0; trial < 400; ++trial) {
      const int n = shape.n, n_sub = 1 + trial % 9;
      std::vector<std::vector<float>> parts;
      for (int s = 0; s < n_sub; ++s) parts.push_back(sample(random, n, (trial + s) % 8));
      std::vector<float> x = join(parts), w(x.size()), scales(n_sub);
      for (float& v : x) v = std::fabs(v);
      if (shape.flip)
        for (size_t i = random() % 8; i < x.size(); i += 8) x[i] = -x[i];
      for (float& v : w) v = weight(random) * weight(random);
      std::vector<uint8_t> levels(x.size());
      fit_scale(n, shape.n_max, n_sub, x.data(), w.data(), levels.data(), scales.data());
      for (int s = 0; s < n_sub; ++s) {
        const SlowFit slow = slow_scale(n, shape.n_max, x.data() + n * s, w.data() + n * s);
        ASSERT_EQ(bits(scales[s]), bits(slow.scale)) << "kind " << (trial + s) % 8;
        ASSERT_TRUE(std::equal(slow.levels.begin(), slow.levels.end(), levels.begin() + n * s));
      }
    }
}

}  // namespace
}  // namespace narwhal::quant
