#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

#include "backend/cpu/cpu_ops.h"
#include "base/check.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

// A chunk below this many multiply-adds is not worth waking a thread for.
constexpr int64_t kMinChunkWork = 1 << 16;
constexpr int64_t kMinRunBytes = 256 << 10;
constexpr int kMaxRounds = 6;
constexpr int kMinRowChunk = 96;
constexpr int kActRows = 1024;  // prepared at once, which bounds their memory

int64_t round_up(int64_t v, int64_t to) { return (v + to - 1) / to * to; }

}  // namespace

void CpuOps::Buffer::Free::operator()(std::byte* p) const { std::free(p); }

void CpuOps::Buffer::grow(int64_t n_bytes) {
  if (n_bytes <= n_bytes_) return;
  n_bytes_ = round_up(n_bytes, 64);
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(64, n_bytes_)));
  NW_CHECK(data_ != nullptr, "no memory for {} bytes of scratch", n_bytes_);
}

CpuOps::Sizes CpuOps::sizes(const StepLimits& limits) const {
  const int64_t width = limits.max_width, n = limits.n_rows;
  const int64_t inputs = std::max<int64_t>(limits.max_inputs, width);
  Sizes s;
  s.product = kernels_.scratch_bytes(width);
  s.up = std::max<int64_t>(n * kernels_.chunk_outputs,
                           std::min<int64_t>(n, kFewRows) * kFewRowsOutputs) *
         4;
  s.keys = cpu::kKeyBlock * width * 4;
  s.row = 4 * width * 4;
  s.sort = limits.n_index_rows * 8;
  // Bytes of a prepared row grow with its values; cutting it into groups adds padding.
  const auto bytes = [&](int64_t values) {
    return cpu::ActLayout(cpu::ActKind::kInt16, values, kernels_.planes).stride + values / 4 + 1024;
  };
  const int64_t expert_inputs =
      limits.expert_inputs > 0 ? limits.expert_inputs : width * limits.n_experts_used;
  s.acts = std::max(std::min<int64_t>(n, kActRows) * bytes(inputs), n * bytes(expert_inputs));
  s.pairs = n * limits.n_experts_used;
  return s;
}

int64_t CpuOps::scratch_bytes(const StepLimits& limits) const {
  const Sizes s = sizes(limits);
  return pool_.size() * (s.product + s.up + s.keys + s.row + s.sort) + s.acts +
         4 * (2 * s.pairs + 3 * (limits.n_experts + 1));
}

void CpuOps::prepare(const StepLimits& limits) {
  const Sizes size = sizes(limits);
  for (Scratch& s : scratch_) {
    s.product.grow(size.product);
    s.up.grow(size.up);
    s.keys.grow(size.keys);
    s.row.grow(size.row);
    s.sort.grow(size.sort);
  }
  acts_.grow(size.acts);
  const auto grow = [](std::vector<int32_t>& v, int64_t n) {
    if (static_cast<int64_t>(v.size()) < n) v.resize(n);
  };
  for (auto* v : {&count_, &begin_, &active_}) grow(*v, limits.n_experts + 1);
  grow(pairs_, size.pairs);
  grow(pair_rows_, size.pairs);
}

void CpuOps::each_row(int64_t n, int64_t work, const ThreadPool::Body& body) {
  const int64_t per_thread = (n + pool_.size() - 1) / pool_.size();
  const int64_t enough = kMinChunkWork / std::max<int64_t>(work, 1) + 1;
  pool_.run(n, std::max(enough, std::min<int64_t>(per_thread, 16)), body);
}

void CpuOps::prepare_acts(DType type, int64_t n, int64_t n_in, const float* x,
                          cpu::MatmulJob& job) {
  const cpu::ActKind kind = exact_ ? cpu::ActKind::kF32 : cpu::act_kind(type);
  const cpu::ActLayout layout(kind, n_in, kernels_.planes);
  job.kind = kind;
  job.act_stride = layout.stride;
  if (kind == cpu::ActKind::kF32) {
    job.acts = reinterpret_cast<const std::byte*>(x);
    return;
  }
  const auto quantise = kind == cpu::ActKind::kInt16 ? kernels_.quantise16 : kernels_.quantise8;
  job.acts = acts_.data();
  each_row(n, n_in, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++)
      quantise(x + r * n_in, n_in, layout, acts_.data() + r * layout.stride);
  });
}

int64_t CpuOps::Runs::begin(int64_t piece) const {
  const int64_t round = piece / n_threads, slot = piece % n_threads;
  if (round >= n_rounds) return n;
  const int64_t left = n >> round;  // of all when the round begins
  const int64_t taken = round + 1 < n_rounds ? left - (n >> (round + 1)) : left;
  return n - left + taken * slot / n_threads;
}

CpuOps::Runs CpuOps::cut_runs(int64_t n, int64_t bytes, int64_t work) const {
  Runs runs{n, 1, 1};
  runs.n_threads = static_cast<int>(std::clamp<int64_t>(work / kMinChunkWork, 1, pool_.size()));
  while (runs.n_threads > 1 && runs.n_rounds < kMaxRounds &&
         bytes / runs.n_threads >> runs.n_rounds >= kMinRunBytes)
    runs.n_rounds++;
  return runs;
}

CpuOps::Pieces CpuOps::cut(int64_t n_out, int n) const {
  // Wide pieces; rows are cut where there are too few outputs to go round.
  int64_t rows = n;
  const int64_t wanted = 4 * pool_.size();
  const int64_t outputs = std::clamp<int64_t>(n_out / wanted / 32 * 32, 32, kernels_.chunk_outputs);
  const int64_t pieces = (n_out + outputs - 1) / outputs;
  if (pieces < wanted)
    rows = std::max<int64_t>(kMinRowChunk, round_up(n * pieces / wanted, kMinRowChunk));
  return {n_out, outputs, pieces, n, rows, (n + rows - 1) / rows};
}

void CpuOps::matmul(const Weight& w, int n, const float* x, float* y) {
  grouped_matmul(w, 1, n, x, y);
}

void CpuOps::grouped_matmul(const Weight& w, int n_groups, int n, const float* x, float* y) {
  for (int r = 0; r < n; r += kActRows)
    product(w, n_groups, std::min(kActRows, n - r), x + r * n_groups * w.n_in, y + r * w.n_out);
}

// A row of x is n_groups rows of n_in values, one after another.
void CpuOps::product(const Weight& w, int n_groups, int n, const float* x, float* y) {
  const int64_t per_group = w.n_out / n_groups;
  cpu::MatmulJob all;
  prepare_acts(w.type, int64_t{n} * n_groups, w.n_in, x, all);
  const int64_t group_stride = all.act_stride;
  all.act_stride *= n_groups;
  all.y_stride = w.n_out;
  each_piece(w.n_out, n, w.n_out * w.row_bytes(), w.n_out * w.n_in * n,
             [&](int64_t o, int64_t end, int r, int r_end, int thread) {
               while (o < end) {
                 const int64_t group = o / per_group, stop = std::min(end, (group + 1) * per_group);
                 cpu::MatmulJob job = all;
                 job.w = w.rows(o, stop);
                 job.acts += group * group_stride + r * all.act_stride;
                 job.n = r_end - r;
                 job.y = y + r * all.y_stride + o;
                 kernels_.matmul(job, 0, stop - o, scratch(thread).product.data());
                 o = stop;
               }
             });
}

// Few rows: one round of the threads over the outputs of all, which count in whole lanes. All share
// one preparation of x, so types that want different ones go one by one.
void CpuOps::matmuls(std::span<const Product> all, int n, const float* x) {
  constexpr size_t kMost = 8;
  std::array<cpu::MatmulJob, kMost> jobs;
  std::array<int64_t, kMost + 1> begin{};
  int64_t n_bytes = 0, work = 0;
  const cpu::MatmulJob* prepared = nullptr;
  bool together = n <= kFewRows && all.size() <= kMost;
  for (size_t i = 0; together && i < all.size(); i++) {
    const Weight& w = *all[i].w;
    cpu::MatmulJob& job = jobs[i];
    const auto kind = exact_ ? cpu::ActKind::kF32 : cpu::act_kind(w.type);
    if (prepared && kind == prepared->kind) {
      job = *prepared;
    } else if (prepared && kind != cpu::ActKind::kF32) {
      together = false;
    } else {
      prepare_acts(w.type, n, w.n_in, x, job);
      if (kind != cpu::ActKind::kF32) prepared = &job;
    }
    job.n = n;
    job.y_stride = w.n_out;
    begin[i + 1] = begin[i] + round_up(w.n_out, cpu::kLanes);
    n_bytes += w.n_out * w.row_bytes();
    work += w.n_out * w.n_in * n;
  }
  if (!together) return Ops::matmuls(all, n, x);
  each_piece(begin[all.size()], n, n_bytes, work,
             [&](int64_t o, int64_t end, int, int, int thread) {
               for (size_t i = 0; i < all.size(); i++) {
                 const Weight& w = *all[i].w;
                 const int64_t first = std::max(o - begin[i], int64_t{0});
                 const int64_t stop = std::min(end - begin[i], w.n_out);
                 if (first >= stop) continue;
                 cpu::MatmulJob job = jobs[i];
                 job.w = w.rows(first, stop);
                 job.y = all[i].y + first;
                 kernels_.matmul(job, 0, stop - first, scratch(thread).product.data());
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
  each_row(b.n_rows, n_hc * d, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      float* first = X + r * n_hc * d;
      quant::decode_row(table.type, table.row(b.token[r]), d, first);
      for (int h = 1; h < n_hc; h++) std::copy_n(first, d, first + h * d);
    }
  });
}

void CpuOps::rms_norm(int n, int64_t d, const float* x, const float* w, float eps, float* y) {
  each_row(n, 2 * d, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++) {
      const float* xr = x + r * d;
      const float scale = 1 / std::sqrt(kernels_.dot(xr, xr, d) / static_cast<float>(d) + eps);
      kernels_.norm(xr, w, d, scale, y + r * d);
    }
  });
}

void CpuOps::add(int64_t n, const float* b, float* a) {
  each_row(n, 1, [&](int64_t begin, int64_t end, int) {
    kernels_.add(b + begin, end - begin, a + begin);
  });
}

void CpuOps::head_norm(int n, int n_heads, int dim, float eps, float* q) {
  each_row(int64_t{n} * n_heads, 2 * dim, [&](int64_t begin, int64_t end, int) {
    for (int64_t h = begin; h < end; h++) {
      float* v = q + h * dim;
      kernels_.scale_by(v, dim,
                        1 / std::sqrt(kernels_.dot(v, v, dim) / static_cast<float>(dim) + eps));
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

void CpuOps::best_logits(int n, int n_vocab, const float* logits, Candidates* best) {
  each_row(n, n_vocab, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; r++)
      best[r] = candidates_of({logits + r * n_vocab, static_cast<size_t>(n_vocab)});
  });
}

}  // namespace narwhal
