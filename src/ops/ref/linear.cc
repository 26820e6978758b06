#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "ops/ref/ref_ops.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

double dot(const std::vector<float>& w, const float* x) {
  double sum = 0;
  for (size_t i = 0; i < w.size(); i++) sum += double(w[i]) * x[i];
  return sum;
}

double sum_squares(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += double(x[i]) * x[i];
  return sum;
}

}  // namespace

void RefOps::rope_table(const BatchRows& b, const float* freq, int rope, float* out) {
  for (int r = 0; r < b.n_rows; r++)
    for (int i = 0; i < rope / 2; i++) {
      const float angle = static_cast<float>(b.position[r]) * freq[i];
      float* pair = out + (int64_t{r} * rope / 2 + i) * 2;
      pair[0] = static_cast<float>(std::cos(double(angle)));
      pair[1] = static_cast<float>(std::sin(double(angle)));
    }
}

void RefOps::embed(const BatchRows& b, const Weight& table, int n_hc, float* X) {
  const int64_t d = table.n_in;
  for (int r = 0; r < b.n_rows; r++)
    for (int h = 0; h < n_hc; h++)
      quant::decode_row(table.type, table.row(b.token[r]), d, X + (int64_t{r} * n_hc + h) * d);
}

void RefOps::matmul(const Weight& w, int n, const float* x, float* y) {
  grouped_matmul(w, 1, n, x, y);
}

void RefOps::grouped_matmul(const Weight& w, int n_groups, int n, const float* x, float* y) {
  std::vector<float> row(w.n_in);
  const int64_t per_group = w.n_out / n_groups;
  for (int64_t o = 0; o < w.n_out; o++) {
    quant::decode_row(w.type, w.row(o), w.n_in, row.data());
    const int64_t group = o / per_group;
    for (int r = 0; r < n; r++)
      y[r * w.n_out + o] =
          static_cast<float>(dot(row, x + (r * int64_t{n_groups} + group) * w.n_in));
  }
}

void RefOps::rms_norm(int n, int64_t d, const float* x, const float* w, float eps, float* y) {
  for (int r = 0; r < n; r++) {
    const double scale = 1 / std::sqrt(sum_squares(x + r * d, d) / d + eps);
    for (int64_t i = 0; i < d; i++) y[r * d + i] = static_cast<float>(x[r * d + i] * scale * w[i]);
  }
}

void RefOps::add(int64_t n, const float* b, float* a) {
  for (int64_t i = 0; i < n; i++) a[i] += b[i];
}

void RefOps::head_norm(int n, int n_heads, int dim, float eps, float* q) {
  for (int64_t h = 0; h < int64_t{n} * n_heads; h++) {
    float* v = q + h * dim;
    const double scale = 1 / std::sqrt(sum_squares(v, dim) / dim + eps);
    for (int i = 0; i < dim; i++) v[i] = static_cast<float>(v[i] * scale);
  }
}

void RefOps::rope_tail(int n, int n_heads, int dim, int rope, const float* table, bool inverse,
                       float* x) {
  for (int r = 0; r < n; r++)
    for (int h = 0; h < n_heads; h++) {
      float* u = x + (int64_t{r} * n_heads + h) * dim + dim - rope;
      for (int i = 0; i < rope / 2; i++) {
        const float* pair = table + (int64_t{r} * rope / 2 + i) * 2;
        const double c = pair[0], s = inverse ? -pair[1] : pair[1];
        const double a = u[2 * i], b = u[2 * i + 1];
        u[2 * i] = static_cast<float>(a * c - b * s);
        u[2 * i + 1] = static_cast<float>(a * s + b * c);
      }
    }
}

void RefOps::gather_rows(int n_out, const int32_t* index, int64_t d, const float* src, float* out) {
  for (int i = 0; i < n_out; i++) std::copy_n(src + index[i] * d, d, out + i * d);
}

void RefOps::best_logits(int n, int n_vocab, const float* logits, Candidates* best) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  for (int r = 0; r < n; r++) {
    std::vector<float> row(logits + int64_t{r} * n_vocab, logits + int64_t{r + 1} * n_vocab);
    Candidates& c = best[r];
    c.n = std::min(n_vocab, Candidates::kMost);
    c.first_nan = -1;
    for (int i = n_vocab - 1; i >= 0; i--) {
      if (!std::isnan(row[i])) continue;
      row[i] = kNever;
      c.first_nan = i;
    }
    std::vector<int32_t> order(n_vocab);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return row[a] > row[b]; });
    for (int i = 0; i < Candidates::kMost; i++) {
      c.ids[i] = i < c.n ? order[i] : -1;
      c.logits[i] = i < c.n ? row[order[i]] : kNever;
    }
  }
}

}  // namespace narwhal
