// KernelOps: every op as launches of the shared kernels. The same for all devices; what differs is
// the queue. Nothing is read back, nothing runs on the host.
//
// Weights must have been packed (packed.h). Rows up to kFewRows are multiplied row by row: with
// weights of small integers after rounding the inputs to 16 bits (kernels/dot.h), otherwise in f32.
// More rows than that go through matrix tiles of half precision. Where exactness was asked for, all
// is f32.
#pragma once

#include <cstdint>

#include "backend/backend.h"
#include "backend/gpu/queue.h"
#include "ops/ops.h"

namespace narwhal::gpu {

inline constexpr int kFewRows = 16;

// Device memory that ops need besides their arguments; see place().
struct Scratch {
  int32_t *pairs = nullptr, *tiles = nullptr, *n_tiles = nullptr;
  float* expert_down = nullptr;  // [n_rows][n_experts_used][d_model]
  uint16_t* halves = nullptr;    // inputs of a product, or of both products of routed experts
  int64_t n_halves = 0;
  float* parts = nullptr;       // attention, [few rows][n_heads][kMaxParts][head_dim + 2]
  float* hc_partial = nullptr;  // [n_rows][n_mixes + 1][slices]
  // Of few rows: the best of their slices, and whether there are numbers (kernels/best_logits.h).
  uint32_t *best_keys = nullptr, *best_nans = nullptr;
};

class KernelOps : public Ops {
 public:
  // exact: f32 arithmetic for any number of rows (BackendOptions::exact_products).
  explicit KernelOps(Queue& queue, bool exact = false) : queue_(queue), exact_(exact) {}

  // kFailed for shapes beyond the kernels' limits.
  static Status check(const StepLimits& limits);
  static int64_t place(const StepLimits& limits, std::byte* base, Scratch& scratch);
  void prepare(const StepLimits& limits, const Scratch& scratch) {
    limits_ = limits;
    scratch_ = scratch;
  }

  void sync() override { queue_.sync(); }

  void begin_independent() override { independent_ = true; }
  void end_independent() override;

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

  void matmuls(std::span<const Product> products, int n, const float* x) override;
  void hc_pre(const HcParams& p, const float* norm, int n, const float* X, float* gates,
              float* x) override;
  void hc_next(const HcParams& done, const HcParams& next, const float* norm, int n,
               const float* out, float* gates, float* X, float* x) override;
  void index_select(const BatchRows& b, const IndexParams& p, const float* q, const float* w,
                    float* scores, int32_t* selected, int32_t* n_selected) override;
  void compressor_step(const BatchRows& b, const CompressorParams& p, const Weight& ape,
                       const float* k, float* s) override;
  void index_heads(const RowFormat& format, int n, int n_heads, int rope, const float* table,
                   float* q) override;
  void attention_step(const BatchRows& b, const AttentionParams& p, int rope, const float* table,
                      const float* q, float* out) override;
  void make_kv_rows(const RowFormat& format, int n, int rope, const float* norm, float eps,
                    const float* table, float* kv, std::byte* rows) override;
  void shared_expert(const ExpertParams& p, int n, const float* x, float* gate, float* up,
                     float* down, float* y) override;
  void experts(const ExpertParams& routed, const ExpertParams& shared, int n, int k, const float* x,
               const int32_t* ids, const float* weights, const ExpertScratch& scratch,
               float* y) override;
  void hc_head(const HcParams& p, const float* norm, int n, const float* X, float* gates,
               float* y) override;
  void head_norm_rope(int n, int n_heads, int dim, int rope, float eps, const float* table,
                      float* q) override;

 private:
  bool fused_hc(const HcParams& p, const float* norm, int n, int n_mixes, const float* out,
                float* X, float* gates, float* x);
  void tall_product(const Product& p, int n, const float* x, bool add);
  // `halves`: x as halves where tiles are to be used, else null.
  void products(std::span<const Product> products, int n_groups, int n, const float* x,
                const uint16_t* halves, bool add);
  // One row with Q8_0 and F16 weights, in one launch; false where there is no kernel for it.
  bool side_by_side(std::span<const Product> products, const float* x);
  const uint16_t* to_halves(int64_t n, const float* x);  // in scratch, until the next call
  void expert_hidden(const ExpertParams& p, int n, int k, const float* x, const int32_t* ids,
                     const float* weights, float* hidden);
  void expert_tiles(const ExpertParams& p, int n, int k, const float* x, const int32_t* ids,
                    const float* weights, float* hidden, float* y);

  template <int kHeadTiles, int kQueries>
  void index_tiles(const BatchRows& b, const IndexParams& p, int spared, const float* q,
                   const float* w, float* scores);
  void index_scores_above(const BatchRows& b, const IndexParams& p, int spared, const float* q,
                          const float* w, float* scores);

  // Whether the device and the rows allow kernels::AttentionWide.
  bool wide_attention(const AttentionParams& p) const;

  bool on_matrix_units(const AttentionParams& p) const;
  void attention_parts(const AttentionParams& p, const kernels::AttentionView& view);
  void attention_whole(const AttentionParams& p, const kernels::AttentionView& view);
  void attend(const BatchRows& b, const AttentionParams& p, int rope, const float* table,
              const float* q, float* out, bool store);
  kernels::AttentionView attention_view(const BatchRows& b, const AttentionParams& p, int rope,
                                        const float* table, const float* q, float* out) const;

  bool many(int n) const { return n > kFewRows && !exact_; }

  // Holds a launch back until end_independent, where there is room for it in `inputs_`.
  template <class K>
  void run_beside(const K& kernel, K kernels::AttentionInputs::*place,
                  int kernels::AttentionInputs::*n, int64_t n_groups);

  Queue& queue_;
  bool exact_;
  bool independent_ = false;
  kernels::AttentionInputs inputs_{};
  StepLimits limits_;
  Scratch scratch_;
};

}  // namespace narwhal::gpu
