#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ops/ref/ref_ops.h"
#include "ops/row_codec.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

// Row `position` of a sequence's k or s: from this step where it is that new, else from the ring.
const float* token_row(const BatchRows& b, int r, int64_t position, int64_t width,
                       const float* step, const Ring& ring) {
  const int64_t first = b.first_position(r);
  if (position >= first) return step + (b.first_row[r] + position - first) * width;
  return reinterpret_cast<const float*>(ring.at(b.slot[r], position));
}

// The pooled row of window w, one channel at a time: softmax over its tokens' scores.
void pool(const BatchRows& b, int r, const CompressorParams& p, const float* k, const float* s,
          int64_t w, std::vector<double>& row) {
  const int64_t width = p.width(), d = p.out.format.dim;
  // With overlap, the window before acts with the first half of its channels, this one with the
  // second.
  struct Part {
    int64_t position, channel;
  };
  std::vector<Part> parts;
  for (int64_t j = 0; p.overlap && w > 0 && j < p.ratio; j++)
    parts.push_back({(w - 1) * p.ratio + j, 0});
  for (int64_t j = 0; j < p.ratio; j++) parts.push_back({w * p.ratio + j, p.overlap ? d : 0});
  for (int64_t c = 0; c < d; c++) {
    const auto score = [&](const Part& t) {
      return double(token_row(b, r, t.position, width, s, p.s_ring)[t.channel + c]);
    };
    double top = -std::numeric_limits<double>::infinity(), sum = 0, value = 0;
    for (const Part& t : parts) top = std::max(top, score(t));
    for (const Part& t : parts) {
      const double weight = std::exp(score(t) - top);
      sum += weight;
      value += weight * token_row(b, r, t.position, width, k, p.k_ring)[t.channel + c];
    }
    row[c] = value / sum;
  }
}

}  // namespace

void RefOps::encode_rows(const RowFormat& format, int n, const float* x, std::byte* out) {
  std::vector<float> scratch(format.dim);
  for (int r = 0; r < n; r++)
    encode_kv_row(format, x + int64_t{r} * format.dim, out + int64_t{r} * format.bytes(),
                  scratch.data());
}

void RefOps::index_query(const RowFormat& format, int n, int n_heads, float* q) {
  for (int64_t h = 0; h < int64_t{n} * n_heads; h++) round_index_head(format, q + h * format.dim);
}

void RefOps::add_ape(const BatchRows& b, const Weight& ape, int ratio, float* s) {
  std::vector<float> row(ape.n_in);
  for (int r = 0; r < b.n_rows; r++) {
    quant::decode_row(ape.type, ape.row(b.position[r] % ratio), ape.n_in, row.data());
    for (int64_t i = 0; i < ape.n_in; i++) s[r * ape.n_in + i] += row[i];
  }
}

void RefOps::compress(const BatchRows& b, const CompressorParams& p, const float* k,
                      const float* s) {
  const int d = p.out.format.dim;
  std::vector<double> pooled(d);
  std::vector<float> row(d), scratch(d);
  for (int r = 0; r < b.n_rows; r++) {
    if ((b.position[r] + 1) % p.ratio != 0) continue;
    const int64_t w = b.position[r] / p.ratio;
    pool(b, r, p, k, s, w, pooled);
    double squares = 0;
    for (const double v : pooled) squares += v * v;
    const double scale = 1 / std::sqrt(squares / d + p.rms_eps);
    for (int c = 0; c < d; c++) row[c] = static_cast<float>(pooled[c] * scale * p.norm[c]);
    for (int i = 0; i < p.rope / 2; i++) {  // at the first token of the window
      const float angle = static_cast<float>(w * p.ratio) * p.rope_freq[i];
      const double cos = std::cos(double(angle)), sin = std::sin(double(angle));
      float* u = &row[d - p.rope + 2 * i];
      const double a = u[0], c = u[1];
      u[0] = static_cast<float>(a * cos - c * sin);
      u[1] = static_cast<float>(a * sin + c * cos);
    }
    encode_kv_row(p.out.format, row.data(), p.out.at(b.slot[r], w), scratch.data());
  }
}

void RefOps::ring_store(const BatchRows& b, const Ring& ring, const std::byte* src) {
  for (int r = 0; r < b.n_rows;
       r++)  // ascending: where a step is longer than the ring, the newest stay
    std::memcpy(ring.at(b.slot[r], b.position[r]), src + int64_t{r} * ring.row_bytes,
                ring.row_bytes);
}

}  // namespace narwhal
