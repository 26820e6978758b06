#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/cpu_ops.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

// The smallest sum of chosen scores that is divided by, so that vanishing scores stay finite.
constexpr float kMinScoreSum = 0x1p-14f;

float softplus(float l) { return l > 20 ? l : std::log1p(std::exp(l)); }

}  // namespace

void CpuOps::route(const BatchRows& b, const float* logits, int n_experts, const float* bias,
                   const int32_t* tid2eid, int k, float scale, int32_t* ids, float* weights) {
  const auto score = [](float l) { return std::sqrt(softplus(l)); };
  each_row(b.n_rows, int64_t{40} * n_experts, [&](int64_t begin, int64_t end, int thread) {
    float* s = scratch(thread).keys.as<float>();
    for (int64_t r = begin; r < end; r++) {
      const float* l = logits + r * n_experts;
      int32_t* chosen = ids + r * k;
      if (tid2eid) {
        std::copy_n(tid2eid + int64_t{b.token[r]} * k, k, chosen);
      } else {
        for (int e = 0; e < n_experts; e++) s[e] = score(l[e]) + bias[e];
        for (int i = 0; i < k; i++) {  // the lowest id wins a tie
          chosen[i] = static_cast<int32_t>(std::max_element(s, s + n_experts) - s);
          s[chosen[i]] = -std::numeric_limits<float>::infinity();
        }
      }
      std::sort(chosen, chosen + k);
      float sum = 0;
      for (int i = 0; i < k; i++) sum += score(l[chosen[i]]);
      for (int i = 0; i < k; i++)
        weights[r * k + i] = scale * score(l[chosen[i]]) / std::max(sum, kMinScoreSum);
    }
  });
}

// Counting sort; pairs of an expert stay in the order of their rows.
void CpuOps::sort_by_expert(int n_experts, int64_t n_pairs, int k, const int32_t* ids) {
  std::fill_n(count_.data(), n_experts, 0);
  for (int64_t i = 0; i < n_pairs; i++) count_[ids[i]]++;
  n_active_ = 0;
  int32_t at = 0;
  for (int e = 0; e < n_experts; e++) {
    if (count_[e] == 0) continue;
    active_[n_active_] = e;
    begin_[n_active_++] = at;
    const int32_t n = count_[e];
    count_[e] = at;  // from here on where the expert's next pair goes
    at += n;
  }
  begin_[n_active_] = at;
  for (int64_t i = 0; i < n_pairs; i++) {
    const int32_t to = count_[ids[i]]++;
    pairs_[to] = static_cast<int32_t>(i);
    pair_rows_[to] = static_cast<int32_t>(i / k);
  }
}

// hidden[pair] = silu(gate) * up * weight for every chosen pair; one work list over all experts.
void CpuOps::expert_hidden(const ExpertParams& p, int64_t n_pairs, const cpu::MatmulJob& acts,
                           const float* weights, float* hidden) {
  const int64_t inner = p.w1.n_out;
  // Outputs [o, stop) of active expert a.
  const auto part = [&](int64_t a, int64_t o, int64_t stop, Scratch& s) {
    const int64_t width = stop - o;
    const int32_t* pairs = pairs_.data() + begin_[a];
    cpu::MatmulJob job = acts;
    job.n = begin_[a + 1] - begin_[a];
    job.in_rows = pair_rows_.data() + begin_[a];
    job.w = p.w1.expert(active_[a]).rows(o, stop);
    job.out_rows = pairs;
    job.y = hidden + o;
    job.y_stride = inner;
    kernels_.matmul(job, 0, width, s.product.data());
    job.w = p.w3.expert(active_[a]).rows(o, stop);
    job.out_rows = nullptr;
    job.y = s.up.as<float>();
    job.y_stride = width;
    kernels_.matmul(job, 0, width, s.product.data());
    for (int i = 0; i < job.n; i++) {
      float* h = hidden + pairs[i] * inner + o;
      kernels_.swiglu(h, job.y + i * width, width, p.limit, weights[pairs[i]], h);
    }
  };
  if (n_pairs / n_active_ > kFewRows) {  // wide pieces, so that activations are read less often
    const int64_t outputs = kernels_.chunk_outputs, pieces = (inner + outputs - 1) / outputs;
    pool_.run(n_active_ * pieces, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t item = begin; item < end; item++) {
        const int64_t o = item % pieces * outputs;
        part(item / pieces, o, std::min(o + outputs, inner), scratch(thread));
      }
    });
    return;
  }
  const int64_t panels = (inner + cpu::kLanes - 1) / cpu::kLanes;
  const Runs runs = cut_runs(n_active_ * panels, 2 * n_active_ * p.w1.matrix_bytes(),
                             2 * n_pairs * inner * p.w1.n_in);
  pool_.run(runs.count(), 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t at = runs.begin(begin), stop = runs.begin(end); at < stop;) {
      const int64_t a = at / panels, o = at % panels * cpu::kLanes;
      const int64_t outputs =
          begin_[a + 1] - begin_[a] <= kFewRows ? kFewRowsOutputs : kernels_.chunk_outputs;
      const int64_t next = std::min({at + outputs / cpu::kLanes, (a + 1) * panels, stop});
      part(a, o, std::min(o + (next - at) * cpu::kLanes, inner), scratch(thread));
      at = next;
    }
  });
}

// y[row] = sum over its experts, ascending for every output, which fixes the order of the sum.
void CpuOps::expert_down(const ExpertParams& p, int n, const cpu::MatmulJob& acts, float* y) {
  const int64_t d = p.w2.n_out;
  each_piece(d, n, n_active_ * d * p.w2.row_bytes(), d * p.w2.n_in * n_active_,
             [&](int64_t o, int64_t end, int r, int r_end, int thread) {
               for (int i = r; i < r_end; i++) std::fill_n(y + i * d + o, end - o, 0.0f);
               for (int a = 0; a < n_active_; a++) {
                 // The expert's pairs of rows [r, r_end): rows ascend.
                 const int32_t* rows = pair_rows_.data();
                 const auto* first = std::lower_bound(rows + begin_[a], rows + begin_[a + 1], r);
                 const auto* last = std::lower_bound(first, rows + begin_[a + 1], r_end);
                 if (first == last) continue;
                 cpu::MatmulJob job = acts;
                 job.w = p.w2.expert(active_[a]).rows(o, end);
                 job.n = static_cast<int>(last - first);
                 job.in_rows = pairs_.data() + (first - rows);
                 job.out_rows = first;
                 job.y = y + o;
                 job.y_stride = d;
                 job.accumulate = true;
                 kernels_.matmul(job, 0, end - o, scratch(thread).product.data());
               }
             });
}

void CpuOps::routed_experts(const ExpertParams& p, int n, int k, const float* x, const int32_t* ids,
                            const float* weights, float* hidden, float* y) {
  const int64_t n_pairs = int64_t{n} * k;
  sort_by_expert(static_cast<int>(p.w1.n_experts), n_pairs, k, ids);
  cpu::MatmulJob acts;
  prepare_acts(p.w1.type, n, p.w1.n_in, x, acts);
  expert_hidden(p, n_pairs, acts, weights, hidden);
  prepare_acts(p.w2.type, n_pairs, p.w2.n_in, hidden, acts);
  expert_down(p, n, acts, y);
}

void CpuOps::swiglu(int64_t n, float limit, const float* u, float* g) {
  each_row(n, 32, [&](int64_t begin, int64_t end, int) {
    kernels_.swiglu(g + begin, u + begin, end - begin, limit, 1.0f, g + begin);
  });
}

}  // namespace narwhal
