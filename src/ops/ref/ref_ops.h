// RefOps: every primitive as a plain scalar loop with sums in double. Slow, independent of the fast
// backends and their helpers where arithmetic is concerned, and meant to be read against the paper.
// One thread. It runs on host memory.
#pragma once

#include "ops/ops.h"

namespace narwhal {

class RefOps : public Ops {
 public:
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
  void best_logits(int n, int n_vocab, const float* logits, Candidates* best) override;
};

}  // namespace narwhal
