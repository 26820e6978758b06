// CpuOps: the ops on a thread pool, with the kernels of one instruction-set level.
//
// Work is cut by rows, outputs or heads, never inside a sum, so results do not depend on the number
// of threads, on the rows of a step or on who else is in it. How products with quantised weights
// round activations is written down in kernels/kernels.h.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernels/kernels.h"
#include "base/threads.h"
#include "ops/ops.h"

namespace narwhal {

class CpuOps : public Ops {
 public:
  // exact: products on f32 activations whatever the weights (BackendOptions::exact_products).
  // seats: of the threads (base/topology.h).
  CpuOps(int n_threads, const cpu::Kernels& kernels, bool exact,
         std::vector<std::vector<int>> seats = {})
      : kernels_(kernels),
        exact_(exact),
        pool_(n_threads, std::move(seats)),
        scratch_(pool_.size()) {}

  int n_threads() const { return pool_.size(); }
  cpu::Level level() const { return kernels_.level; }
  void prepare(const StepLimits& limits);
  int64_t scratch_bytes(const StepLimits& limits) const;

  void rope_table(const BatchRows& b, const float* freq, int rope, float* out) override;
  void embed(const BatchRows& b, const Weight& table, int n_hc, float* X) override;
  void matmul(const Weight& w, int n, const float* x, float* y) override;
  void grouped_matmul(const Weight& w, int n_groups, int n, const float* x, float* y) override;
  void matmuls(std::span<const Product> all, int n, const float* x) override;
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
  void best_logits(int n, int n_vocab, const float* logits, Candidates* best) override;
  // No scores where every visible row is selected anyway.
  void index_select(const BatchRows& b, const IndexParams& p, const float* q, const float* w,
                    float* scores, int32_t* selected, int32_t* n_selected) override;

 private:
  static constexpr int kFewRows = 8;  // at most: weights are read once, as they lie in memory
  static constexpr int64_t kFewRowsOutputs = 1024;  // of an expert at once

  // Memory for kernels: aligned to a cache line, grown by prepare() only. Pages are untouched until
  // used, so those of a thread's Scratch lie in the memory node where it runs.
  class Buffer {
   public:
    void grow(int64_t n_bytes);
    std::byte* data() { return data_.get(); }
    template <class T>
    T* as() {
      return reinterpret_cast<T*>(data_.get());
    }

   private:
    struct Free {
      void operator()(std::byte* p) const;
    };
    std::unique_ptr<std::byte, Free> data_;
    int64_t n_bytes_ = 0;
  };

  // One thread's working memory.
  struct Scratch {
    Buffer product;  // of Kernels::matmul
    Buffer up;       // up projections of one expert
    Buffer keys;     // decoded KV rows of one block, or scores of the router
    Buffer row;      // a few rows
    Buffer sort;     // sortable scores
  };
  struct Sizes {
    int64_t product, up, keys, row, sort, acts, pairs;
  };
  Sizes sizes(const StepLimits& limits) const;
  Scratch& scratch(int thread) { return scratch_[thread]; }

  // x[n][n_in] prepared for weights of this type, in acts_ or x itself. The job gets acts and
  // act_stride.
  void prepare_acts(DType type, int64_t n, int64_t n_in, const float* x, cpu::MatmulJob& job);

  // Runs body over rows, in parallel when `work` per row (multiply-adds, about) makes it
  // worthwhile.
  void each_row(int64_t n, int64_t work, const ThreadPool::Body& body);

  // At most kActRows rows of grouped_matmul.
  void product(const Weight& w, int n_groups, int n, const float* x, float* y);

  // [0, n) for threads that stream it: a piece for each thread and round, half as long from round
  // to round. Long runs of memory are read faster, and there is little to wait for at the end.
  struct Runs {
    int64_t n = 0;
    int n_threads = 1, n_rounds = 1;

    int64_t count() const { return int64_t{n_threads} * n_rounds; }
    int64_t begin(int64_t piece) const;
  };
  // bytes: of all n; work: multiply-adds of all n.
  Runs cut_runs(int64_t n, int64_t bytes, int64_t work) const;

  // An n x n_out product over many rows, cut into pieces for the threads.
  struct Pieces {
    int64_t n_out, outputs, n_cols;
    int64_t n, rows, n_row_chunks;
  };
  Pieces cut(int64_t n_out, int n) const;
  // Calls body(first output, end, first row, end, thread) for the pieces of a product of `macs`
  // multiply-adds with weights of `bytes`.
  template <class F>
  void each_piece(int64_t n_out, int n, int64_t bytes, int64_t macs, F&& body) {
    if (n > kFewRows) return each_piece(cut(n_out, n), body);
    const Runs runs = cut_runs((n_out + cpu::kLanes - 1) / cpu::kLanes, bytes, macs);
    pool_.run(runs.count(), 1, [&](int64_t begin, int64_t end, int thread) {
      const int64_t o = runs.begin(begin) * cpu::kLanes, stop = runs.begin(end) * cpu::kLanes;
      if (o < stop) body(o, stop < n_out ? stop : n_out, 0, n, thread);
    });
  }
  template <class F>
  void each_piece(const Pieces& p, F& body) {
    pool_.run(p.n_cols * p.n_row_chunks, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t item = begin; item < end; item++) {
        const int64_t o = item % p.n_cols * p.outputs, r = item / p.n_cols * p.rows;
        body(o, o + p.outputs < p.n_out ? o + p.outputs : p.n_out, static_cast<int>(r),
             static_cast<int>(r + p.rows < p.n ? r + p.rows : p.n), thread);
      }
    });
  }

  void sort_by_expert(int n_experts, int64_t n_pairs, int k, const int32_t* ids);
  void expert_hidden(const ExpertParams& p, int64_t n_pairs, const cpu::MatmulJob& acts,
                     const float* weights, float* hidden);
  void expert_down(const ExpertParams& p, int n, const cpu::MatmulJob& acts, float* y);

  const cpu::Kernels& kernels_;
  const bool exact_;
  ThreadPool pool_;
  std::vector<Scratch> scratch_;
  Buffer acts_;  // prepared activations of one op
  // Pairs of (row, choice) sorted by expert: pair = row * k + i. Expert active_[a] has pairs
  // [begin_[a], begin_[a + 1]) of pairs_, whose rows are pair_rows_.
  std::vector<int32_t> count_, begin_, active_, pairs_, pair_rows_;
  int n_active_ = 0;
};

}  // namespace narwhal
