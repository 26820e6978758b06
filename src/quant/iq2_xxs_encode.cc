// The IQ2_XXS quantiser. A group of 32 values is fitted as scale * grid vector, where a grid vector
// has the components 1, 3, 5 for the codes 0, 1, 2 (the stored bytes are about 8.5 times that).
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "quant/f16.h"
#include "quant/iq2_xxs.h"
#include "quant/search.h"

namespace narwhal::quant {
namespace {

constexpr int kCells = 6561;  // 3^8 code vectors, numbered with element 0 as the lowest digit

// For every code vector either the grid vector it is, or the grid vectors next to it.
struct Neighbours {
  std::array<std::array<uint8_t, 8>, 256> code;  // codes of a grid vector
  std::array<int16_t, kCells> exact;             // grid index, or -1
  std::array<uint32_t, kCells + 1> begin;        // near[begin[c] .. begin[c + 1])
  std::vector<uint8_t> near;  // those at the two smallest distances, by (distance, index)
};

int cell_of(const std::array<uint8_t, 8>& code) {
  int cell = 0;
  for (int i = 7; i >= 0; --i) cell = 3 * cell + code[i];
  return cell;
}

int distance2(const std::array<uint8_t, 8>& a, const std::array<uint8_t, 8>& b) {
  int sum = 0;
  for (int i = 0; i < 8; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

Neighbours build_neighbours() {
  Neighbours n;
  n.exact.fill(-1);
  for (int g = 0; g < 256; ++g) {
    for (int i = 0; i < 8; ++i) {
      const auto byte = static_cast<uint8_t>(kIq2XxsGrid[g] >> 8 * i);
      n.code[g][i] = byte == 8 ? 0 : byte == 25 ? 1 : 2;
    }
    n.exact[cell_of(n.code[g])] = static_cast<int16_t>(g);
  }
  for (int cell = 0; cell < kCells; ++cell) {
    n.begin[cell] = static_cast<uint32_t>(n.near.size());
    if (n.exact[cell] >= 0) continue;
    std::array<uint8_t, 8> code;
    for (int i = 0, rest = cell; i < 8; ++i, rest /= 3) code[i] = static_cast<uint8_t>(rest % 3);
    std::array<int, 256> distance;
    for (int g = 0; g < 256; ++g) distance[g] = distance2(code, n.code[g]);
    const int first = *std::min_element(distance.begin(), distance.end());
    int second = INT32_MAX;
    for (int d : distance)
      if (d > first) second = std::min(second, d);
    for (int wanted : {first, second})
      for (int g = 0; g < 256; ++g)
        if (distance[g] == wanted) n.near.push_back(static_cast<uint8_t>(g));
  }
  n.begin[kCells] = static_cast<uint32_t>(n.near.size());
  return n;
}

const Neighbours& neighbours() {
  static const Neighbours table = build_neighbours();
  return table;
}

// The neighbour of `cell` closest to x[8] at this scale under weights w[8]; the first of equals.
uint8_t nearest_neighbour(const Neighbours& table, int cell, const float* x, const float* w,
                          float scale) {
  float term[8][4];  // [element][code]; the fourth column pads the row
  for (int i = 0; i < 8; ++i)
    for (int c = 0; c < 3; ++c) {
      const float v = scale * static_cast<float>(2 * c + 1) - x[i];
      term[i][c] = w[i] * v * v;
    }
  uint8_t best = table.near[table.begin[cell]];
  float best_distance = INFINITY;
  for (uint32_t k = table.begin[cell]; k < table.begin[cell + 1]; ++k) {
    const auto& code = table.code[table.near[k]];
    float distance = 0;
    for (int i = 0; i < 8; ++i) distance += term[i][code[i]];
    if (distance < best_distance) {
      best_distance = distance;
      best = table.near[k];
    }
  }
  return best;
}

// One group of 32: |x| but for a flipped element per sub-vector where the signs would be odd.
struct Input {
  float x[32];
  float w[32];       // weight of a squared error
  float w_grid[32];  // its square root, which picks grid neighbours
};

struct Choice {
  uint8_t index[4];
  float sum_xq, sum_q2;
};

// The grid vectors for x / step, where step = 1 / inverse.
Choice choose(const Neighbours& table, const Input& in, float inverse, float step) {
  Choice out = {};
  for (int t = 0; t < 4; ++t) {
    const float* x = in.x + 8 * t;
    const float* w = in.w + 8 * t;
    std::array<uint8_t, 8> code;
    for (int i = 0; i < 8; ++i)
      code[i] = static_cast<uint8_t>(std::clamp(nint(0.5f * (inverse * x[i] - 1)), 0, 2));
    const int cell = cell_of(code);
    out.index[t] = table.exact[cell] >= 0
                       ? static_cast<uint8_t>(table.exact[cell])
                       : nearest_neighbour(table, cell, x, in.w_grid + 8 * t, step);
    for (int i = 0; i < 8; ++i) {
      const float q = static_cast<float>(2 * table.code[out.index[t]][i] + 1);
      out.sum_xq += w[i] * x[i] * q;
      out.sum_q2 += w[i] * q * q;
    }
  }
  return out;
}

// Best scale for the group and its grid vectors, from a start value above 0.
float fit_group(const Neighbours& table, const Input& in, float start, uint8_t* index) {
  const float top = 3 * start;
  float best = 0, scale = start;
  for (int k = -6; k <= 6; ++k) {
    const float inverse = (5 + 0.1f * static_cast<float>(k)) / top;
    const Choice c = choose(table, in, inverse, 1 / inverse);
    if (c.sum_q2 > 0 && c.sum_xq * c.sum_xq > best * c.sum_q2) {
      scale = c.sum_xq / c.sum_q2;
      best = scale * c.sum_xq;
    }
  }
  const Choice c = choose(table, in, 1 / scale, scale);
  std::copy_n(c.index, 4, index);
  return c.sum_q2 > 0 ? c.sum_xq / c.sum_q2 : scale;
}

// Fills in.x for 8 values and returns their sign bits, made even by flipping the cheapest.
uint32_t take_signs(const float* x, const float* w, float* magnitude) {
  uint32_t bits = 0;
  for (int i = 0; i < 8; ++i) {
    magnitude[i] = std::fabs(x[i]);
    bits |= (x[i] < 0 ? 1u : 0u) << i;
  }
  if (std::popcount(bits) % 2 == 1) {
    int cheapest = 0;
    for (int i = 1; i < 8; ++i)
      if (w[i] * x[i] * x[i] < w[cheapest] * x[cheapest] * x[cheapest]) cheapest = i;
    magnitude[cheapest] = -magnitude[cheapest];
    bits ^= 1u << cheapest;
  }
  return bits & 127;
}

uint32_t prepare_group(const float* x, const float* importance, float sigma2, Input* in) {
  uint32_t signs = 0;
  for (int i = 0; i < 32; ++i) {
    in->w[i] = importance[i] * std::sqrt(sigma2 + x[i] * x[i]);
    in->w_grid[i] = std::sqrt(in->w[i]);
  }
  for (int t = 0; t < 4; ++t) signs |= take_signs(x + 8 * t, in->w + 8 * t, in->x + 8 * t) << 7 * t;
  return signs;
}

void encode_block(const Neighbours& table, const float* x, const float* importance,
                  BlockIQ2XXS* y) {
  *y = {};
  const float sigma2 = sum_of_squares(x, 256) / 256;
  Input groups[8];
  uint32_t signs[8];
  uint8_t index[8][4] = {};
  float scales[8], largest = 0;
  float all_x[256], all_w[256];
  for (int g = 0; g < 8; ++g) {
    signs[g] = prepare_group(x + 32 * g, importance + 32 * g, sigma2, &groups[g]);
    std::copy_n(groups[g].x, 32, all_x + 32 * g);
    std::copy_n(groups[g].w, 32, all_w + 32 * g);
  }
  uint8_t levels[256];
  fit_scale(32, 4, 8, all_x, all_w, levels, scales);
  for (int g = 0; g < 8; ++g) {
    if (scales[g] > 0) {
      scales[g] = fit_group(table, groups[g], scales[g], index[g]);
    } else {
      scales[g] = 0;
      signs[g] = 0;
    }
    largest = std::max(largest, scales[g]);
  }
  if (largest == 0) return;

  const float d = largest / 31;
  const float inverse = 1 / d;
  y->d = f32_to_f16(d);
  for (int g = 0; g < 8; ++g) {
    const int ls = std::clamp(nint(0.5f * (inverse * scales[g] - 1)), 0, 15);
    const uint32_t tail = signs[g] | static_cast<uint32_t>(ls) << 28;
    uint16_t* q = y->qs + 4 * g;
    q[0] = static_cast<uint16_t>(index[g][0] | index[g][1] << 8);
    q[1] = static_cast<uint16_t>(index[g][2] | index[g][3] << 8);
    q[2] = static_cast<uint16_t>(tail);
    q[3] = static_cast<uint16_t>(tail >> 16);
  }
}

}  // namespace

void encode_iq2_xxs(const float* src, int64_t n_blocks, const float* importance, BlockIQ2XXS* dst) {
  const Neighbours& table = neighbours();
  for (int64_t b = 0; b < n_blocks; ++b)
    encode_block(table, src + 256 * b, importance + 256 * b, dst + b);
}

}  // namespace narwhal::quant
