#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/dot.h"
#include "base/check.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

// A chunk below this many multiply-adds is not worth waking a thread for.
constexpr int64_t kMinChunkWork = 1 << 16;
constexpr int kRowBlock = 4;  // weight rows decoded and multiplied together

}  // namespace

void CpuOps::prepare(const StepLimits& limits) {
  const auto grow = [](auto& v, int64_t n) {
    if (static_cast<int64_t>(v.size()) < n) v.resize(n);
  };
  for (Scratch& s : scratch_) {
    grow(s.weights, int64_t{kRowBlock} * limits.max_width);
    grow(s.keys, int64_t{32} * limits.max_width);
    grow(s.row, int64_t{4} * limits.max_width);
    grow(s.sort, limits.n_index_rows);
  }
  grow(expert_begin_, limits.n_experts + 1);
  grow(active_, limits.n_experts);
  grow(pairs_, int64_t{limits.n_rows} * limits.n_experts_used);
}

void CpuOps::each_row(int64_t n, int64_t work, const ThreadPool::Body& body) {
  const int64_t per_thread = (n + pool_.size() - 1) / pool_.size();
  const int64_t enough = kMinChunkWork / std::max<int64_t>(work, 1) + 1;
  pool_.run(n, std::max(enough, std::min<int64_t>(per_thread, 16)), body);
}

void CpuOps::multiply(const Weight& w, int64_t begin, int64_t end, int n, const float* x,
                      int64_t x_stride, float* y, int64_t y_stride, int thread) {
  float* rows = scratch(thread).weights.data();
  for (int64_t o = begin; o < end; o += kRowBlock) {
    const int64_t count = std::min<int64_t>(kRowBlock, end - o);
    for (int64_t j = 0; j < count; j++)
      quant::decode_row(w.type, w.row(o + j), w.n_in, rows + j * w.n_in);
    for (int r = 0; r < n; r++) {
      const float* xr = x + r * x_stride;
      float* yr = y + r * y_stride + o;
      if (count == kRowBlock) {
        dot_rows<kRowBlock>(rows, w.n_in, xr, w.n_in, yr);
      } else {
        for (int64_t j = 0; j < count; j++) yr[j] = dot(rows + j * w.n_in, xr, w.n_in);
      }
    }
  }
}

void CpuOps::matmul(const Weight& w, int n, const float* x, float* y) {
  each_row(w.n_out, w.n_in * n, [&](int64_t begin, int64_t end, int thread) {
    multiply(w, begin, end, n, x, w.n_in, y, w.n_out, thread);
  });
}

void CpuOps::grouped_matmul(const Weight& w, int n_groups, int n, const float* x, float* y) {
  const int64_t per_group = w.n_out / n_groups;
  each_row(w.n_out, w.n_in * n, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t o = begin; o < end;) {
      const int64_t group = o / per_group, stop = std::min(end, (group + 1) * per_group);
      multiply(w, o, stop, n, x + group * w.n_in, n_groups * w.n_in, y, w.n_out, thread);
      o = stop;
    }
  });
}

void CpuOps::rope_table(const BatchRows& b, const float* freq, int rope, float* out) {
  each_row(b.n_rows, rope * 32, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++)
      for (int i = 0; i < rope / 2; i++) {
        // f32 product as the reference forms it, then reduced in f64: near a million tokens the f32
        // rounding of the angle is part of what the model was trained with.
        const float angle = static_cast<float>(b.position[r]) * freq[i];
        float* pair = out + (r * rope / 2 + i) * 2;
        pair[0] = static_cast<float>(std::cos(double(angle)));
        pair[1] = static_cast<float>(std::sin(double(angle)));
      }
  });
}

void CpuOps::embed(const BatchRows& b, const Weight& table, int n_hc, float* X) {
  const int64_t d = table.n_in;
  for (int r = 0; r < b.n_rows; r++) {
    float* first = X + int64_t{r} * n_hc * d;
    quant::decode_row(table.type, table.row(b.token[r]), d, first);
    for (int h = 1; h < n_hc; h++) std::copy_n(first, d, first + h * d);
  }
}

void CpuOps::rms_norm(int n, int64_t d, const float* x, const float* w, float eps, float* y) {
  each_row(n, 2 * d, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      const float* xr = x + r * d;
      const float scale = 1 / std::sqrt(sum_squares(xr, d) / static_cast<float>(d) + eps);
      for (int64_t i = 0; i < d; i++) y[r * d + i] = xr[i] * scale * w[i];
    }
  });
}

void CpuOps::add(int64_t n, const float* b, float* a) {
  for (int64_t i = 0; i < n; i++) a[i] += b[i];
}

void CpuOps::head_norm(int n, int n_heads, int dim, float eps, float* q) {
  each_row(int64_t{n} * n_heads, 2 * dim, [&](int64_t begin, int64_t end, int) {
    for (int64_t h = begin; h < end; h++) {
      float* v = q + h * dim;
      const float scale = 1 / std::sqrt(sum_squares(v, dim) / static_cast<float>(dim) + eps);
      for (int i = 0; i < dim; i++) v[i] *= scale;
    }
  });
}

void CpuOps::rope_tail(int n, int n_heads, int dim, int rope, const float* table, bool inverse,
                       float* x) {
  const float sign = inverse ? -1.0f : 1.0f;
  each_row(int64_t{n} * n_heads, 2 * rope, [&](int64_t begin, int64_t end, int) {
    for (int64_t h = begin; h < end; h++) {
      float* u = x + h * dim + dim - rope;
      const float* pair = table + h / n_heads * rope;
      for (int i = 0; i < rope; i += 2) {
        const float c = pair[i], s = sign * pair[i + 1], a = u[i], b = u[i + 1];
        u[i] = a * c - b * s;
        u[i + 1] = a * s + b * c;
      }
    }
  });
}

void CpuOps::gather_rows(int n_out, const int32_t* index, int64_t d, const float* src, float* out) {
  for (int i = 0; i < n_out; i++) std::copy_n(src + index[i] * d, d, out + i * d);
}

}  // namespace narwhal
