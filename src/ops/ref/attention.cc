#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/ref/ref_ops.h"
#include "ops/row_codec.h"

namespace narwhal {
namespace {

// Every key of one query, in order: window positions ascending, then compressed rows ascending.
std::vector<std::vector<float>> keys_of(const BatchRows& b, const AttentionParams& p, int r) {
  std::vector<std::vector<float>> keys;
  const auto take = [&](const RowFormat& format, const std::byte* row) {
    keys.emplace_back(p.head_dim);
    decode_kv_row(format, row, keys.back().data());
  };
  const int64_t position = b.position[r], first = b.first_position(r);
  for (int64_t j = std::max<int64_t>(0, position - p.window + 1); j <= position; j++)
    take(p.row, j >= first ? p.batch_rows + (b.first_row[r] + j - first) * p.row.bytes()
                           : p.ring.at(b.slot[r], j));
  if (p.ratio == 0) return keys;
  const int64_t n = p.selected ? p.n_selected[r] : visible_rows(position, p.ratio);
  for (int64_t i = 0; i < n; i++)
    take(p.compressed.format,
         p.compressed.at(b.slot[r], p.selected ? p.selected[int64_t{r} * p.top_k + i] : i));
  return keys;
}

}  // namespace

void RefOps::attention(const BatchRows& b, const AttentionParams& p, const float* q, float* out) {
  const double scale = 1 / std::sqrt(double(p.head_dim));
  for (int r = 0; r < b.n_rows; r++) {
    const auto keys = keys_of(b, p, r);
    for (int h = 0; h < p.n_heads; h++) {
      const int64_t at = (int64_t{r} * p.n_heads + h) * p.head_dim;
      std::vector<double> z, o(p.head_dim, 0.0);
      double top = p.sinks[h];
      for (const auto& key : keys) {
        double dot = 0;
        for (int i = 0; i < p.head_dim; i++) dot += double(q[at + i]) * key[i];
        z.push_back(dot * scale);
        top = std::max(top, z.back());
      }
      double sum = std::exp(p.sinks[h] - top);  // the sink only enlarges the denominator
      for (size_t j = 0; j < keys.size(); j++) {
        const double weight = std::exp(z[j] - top);
        sum += weight;
        for (int i = 0; i < p.head_dim; i++) o[i] += weight * keys[j][i];
      }
      for (int i = 0; i < p.head_dim; i++) out[at + i] = static_cast<float>(o[i] / sum);
    }
  }
}

void RefOps::index_scores(const BatchRows& b, const IndexParams& p, const float* q, const float* w,
                          float* scores) {
  const int d = p.rows.format.dim;
  std::vector<float> row(d);
  for (int r = 0; r < b.n_rows; r++)
    for (int64_t c = 0; c < visible_rows(b.position[r], 4); c++) {
      decode_kv_row(p.rows.format, p.rows.at(b.slot[r], c), row.data());
      double score = 0;
      for (int h = 0; h < p.n_heads; h++) {
        double dot = 0;
        for (int i = 0; i < d; i++) dot += double(q[(int64_t{r} * p.n_heads + h) * d + i]) * row[i];
        score += w[int64_t{r} * p.n_heads + h] * std::max(dot, 0.0);
      }
      scores[int64_t{r} * p.max_rows + c] = static_cast<float>(score);
    }
}

void RefOps::top_k(const BatchRows& b, const IndexParams& p, const float* scores, int32_t* selected,
                   int32_t* n_selected) {
  for (int r = 0; r < b.n_rows; r++) {
    const int64_t visible = visible_rows(b.position[r], 4);
    const float* score = scores + int64_t{r} * p.max_rows;
    std::vector<int32_t> ids(visible);
    for (int64_t c = 0; c < visible; c++) ids[c] = static_cast<int32_t>(c);
    const auto value = [&](int32_t c) {
      return std::isnan(score[c]) ? -std::numeric_limits<float>::infinity() : score[c];
    };
    std::stable_sort(ids.begin(), ids.end(),
                     [&](int32_t a, int32_t c) { return value(a) > value(c); });
    ids.resize(std::min<int64_t>(visible, p.top_k));
    std::sort(ids.begin(), ids.end());
    std::copy(ids.begin(), ids.end(), selected + int64_t{r} * p.top_k);
    n_selected[r] = static_cast<int32_t>(ids.size());
  }
}

}  // namespace narwhal
