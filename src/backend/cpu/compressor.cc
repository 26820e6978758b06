#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/cpu_ops.h"
#include "ops/row_codec.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

// k or s of one token: from this step where it is that new, else from the ring.
const float* token_row(const BatchRows& b, int64_t r, int64_t position, int64_t width,
                       const float* step, const Ring& ring) {
  const int64_t first = b.first_position(static_cast<int>(r));
  if (position >= first) return step + (b.first_row[r] + position - first) * width;
  return reinterpret_cast<const float*>(ring.at(b.slot[r], position));
}

// Running softmax average per channel; top, sum and value are [d].
struct Pool {
  const cpu::Kernels& kernels;
  int64_t d;
  float *top, *sum, *value;

  void clear() {
    for (int64_t c = 0; c < d; c++) {
      top[c] = -std::numeric_limits<float>::infinity();
      sum[c] = value[c] = 0;
    }
  }
  void raise(const float* s) {
    for (int64_t c = 0; c < d; c++) top[c] = std::max(top[c], s[c]);
  }
  void add(const float* s, const float* k) { kernels.pool_add(s, k, top, d, sum, value); }
};

// Calls f(position, first channel) for every token that the row of window w pools, oldest first.
template <class F>
void each_part(const CompressorParams& p, int64_t w, F&& f) {
  for (int64_t j = 0; p.overlap && w > 0 && j < p.ratio; j++) f((w - 1) * p.ratio + j, int64_t{0});
  const int64_t half = p.overlap ? p.out.format.dim : 0;
  for (int64_t j = 0; j < p.ratio; j++) f(w * p.ratio + j, half);
}

void norm_and_rotate(const cpu::Kernels& kernels, const CompressorParams& p, int64_t w,
                     float* row) {
  const int d = p.out.format.dim;
  const float scale = 1 / std::sqrt(kernels.dot(row, row, d) / static_cast<float>(d) + p.rms_eps);
  for (int c = 0; c < d; c++) row[c] = row[c] * scale * p.norm[c];
  for (int i = 0; i < p.rope / 2; i++) {  // at the window's first token
    const float angle = static_cast<float>(w * p.ratio) * p.rope_freq[i];
    const float c = static_cast<float>(std::cos(double(angle))),
                s = static_cast<float>(std::sin(double(angle)));
    float* u = row + d - p.rope + 2 * i;
    const float a = u[0], b = u[1];
    u[0] = a * c - b * s;
    u[1] = a * s + b * c;
  }
}

}  // namespace

void CpuOps::encode_rows(const RowFormat& format, int n, const float* x, std::byte* out) {
  each_row(n, 16 * format.dim, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t r = begin; r < end; r++)
      encode_kv_row(format, x + r * format.dim, out + r * format.bytes(),
                    scratch(thread).row.as<float>());
  });
}

void CpuOps::index_query(const RowFormat& format, int n, int n_heads, float* q) {
  each_row(int64_t{n} * n_heads, 16 * format.dim, [&](int64_t begin, int64_t end, int) {
    for (int64_t h = begin; h < end; h++) round_index_head(format, q + h * format.dim);
  });
}

void CpuOps::add_ape(const BatchRows& b, const Weight& ape, int ratio, float* s) {
  each_row(b.n_rows, 2 * ape.n_in, [&](int64_t begin, int64_t end, int thread) {
    float* row = scratch(thread).row.as<float>();
    for (int64_t r = begin; r < end; r++) {
      quant::decode_row(ape.type, ape.row(b.position[r] % ratio), ape.n_in, row);
      for (int64_t i = 0; i < ape.n_in; i++) s[r * ape.n_in + i] += row[i];
    }
  });
}

void CpuOps::compress(const BatchRows& b, const CompressorParams& p, const float* k,
                      const float* s) {
  const int64_t d = p.out.format.dim, width = p.width();
  each_row(b.n_rows, 16 * d, [&](int64_t begin, int64_t end, int thread) {
    float* memory = scratch(thread).row.as<float>();
    Pool pool{kernels_, d, memory, memory + d, memory + 2 * d};
    for (int64_t r = begin; r < end; r++) {
      if ((b.position[r] + 1) % p.ratio != 0) continue;
      const int64_t w = b.position[r] / p.ratio;
      const auto k_at = [&](int64_t position) {
        return token_row(b, r, position, width, k, p.k_ring);
      };
      const auto s_at = [&](int64_t position) {
        return token_row(b, r, position, width, s, p.s_ring);
      };
      pool.clear();
      each_part(p, w, [&](int64_t position, int64_t c) { pool.raise(s_at(position) + c); });
      each_part(p, w, [&](int64_t position, int64_t c) {
        pool.add(s_at(position) + c, k_at(position) + c);
      });
      for (int64_t c = 0; c < d; c++) pool.value[c] /= pool.sum[c];
      norm_and_rotate(kernels_, p, w, pool.value);
      encode_kv_row(p.out.format, pool.value, p.out.at(b.slot[r], w), memory + 3 * d);
    }
  });
}

void CpuOps::ring_store(const BatchRows& b, const Ring& ring, const std::byte* src) {
  for (int r = 0; r < b.n_rows; r++) {
    // Rows that a later row of the same sequence would overwrite are not worth writing.
    const int later = r + ring.capacity;
    if (later < b.n_rows && b.first_row[later] == b.first_row[r]) continue;
    std::memcpy(ring.at(b.slot[r], b.position[r]), src + int64_t{r} * ring.row_bytes,
                ring.row_bytes);
  }
}

}  // namespace narwhal
