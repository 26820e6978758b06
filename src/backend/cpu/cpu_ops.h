// CpuOps: the ops on a thread pool.
//
// Work is cut by rows, outputs or heads, never inside a sum, so results do not depend on the number
// of threads. Weight rows are decoded once per step into a thread's scratch and used for every row
// of it.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "base/threads.h"
#include "ops/ops.h"

namespace narwhal {

class CpuOps : public Ops {
 public:
  explicit CpuOps(int n_threads) : pool_(n_threads), scratch_(pool_.size()) {}

  int n_threads() const { return pool_.size(); }
  void prepare(const StepLimits& limits);

  void rope_table(const BatchRows& b, const float* freq, int rope, float* out) override;
  void embed(const BatchRows& b, const Weight& table, int n_hc, float* X) override;
  void matmul(const Weight& w, int n, const float* x, float* y) override;
  void grouped_matmul(const Weight& w, int n_groups, int n, const float* x, float* y) override;
  void rms_norm(int n, int64_t d, const float* x, const float* w, float eps, float* y) override;
  void add(int64_t n, const float* b, float* a) override;
  void hc_gates(const HcParams& p, int n, const float* X, float* mixes) override;
  void hc_head_gates(const HcParams& p, int n, const float* X, float* mixes) override;
  void hc_sum(const HcParams& p, int n, const float* X, const float* gates, int stride,
              float* x) override;
  void hc_post(const HcParams& p, int n, const float* out, const float* gates, float* X) override;
  void head_norm(int n, int n_heads, int dim, float eps, float* q) override;
  void rope_tail(int n, int n_heads, int dim, int rope, const float* table, bool inverse,
                 float* x) override;
  void encode_rows(const RowFormat& format, int n, const float* x, std::byte* out) override;
  void index_query(const RowFormat& format, int n, int n_heads, float* q) override;
  void add_ape(const BatchRows& b, const Weight& ape, int ratio, float* s) override;
  void compress(const BatchRows& b, const CompressorParams& p, const float* k,
                const float* s) override;
  void ring_store(const BatchRows& b, const Ring& ring, const std::byte* src) override;
  void index_scores(const BatchRows& b, const IndexParams& p, const float* q, const float* w,
                    float* scores) override;
  void top_k(const BatchRows& b, const IndexParams& p, const float* scores, int32_t* selected,
             int32_t* n_selected) override;
  void attention(const BatchRows& b, const AttentionParams& p, const float* q, float* out) override;
  void route(const BatchRows& b, const float* logits, int n_experts, const float* bias,
             const int32_t* tid2eid, int k, float scale, int32_t* ids, float* weights) override;
  void routed_experts(const ExpertParams& p, int n, int k, const float* x, const int32_t* ids,
                      const float* weights, float* hidden, float* y) override;
  void swiglu(int64_t n, float limit, const float* u, float* g) override;
  void gather_rows(int n_out, const int32_t* index, int64_t d, const float* src,
                   float* out) override;

 private:
  // One thread's working memory; grown by prepare() only.
  struct Scratch {
    std::vector<float> weights;  // decoded weight rows
    std::vector<float> keys;     // decoded KV rows of one block
    std::vector<float> row;      // one row
    std::vector<uint64_t> sort;  // sortable scores
  };
  Scratch& scratch(int thread) { return scratch_[thread]; }

  // Outputs [begin, end) of W for every row: y[r * y_stride + o] = W[o] . x[r * x_stride].
  void multiply(const Weight& w, int64_t begin, int64_t end, int n, const float* x,
                int64_t x_stride, float* y, int64_t y_stride, int thread);

  // Runs body over rows, in parallel when `work` per row (multiply-adds, about) makes it
  // worthwhile.
  void each_row(int64_t n, int64_t work, const ThreadPool::Body& body);

  ThreadPool pool_;
  std::vector<Scratch> scratch_;
  // Rows of a step sorted by expert: pair = row * k + i.
  std::vector<int32_t> expert_begin_, pairs_, active_;
};

}  // namespace narwhal
