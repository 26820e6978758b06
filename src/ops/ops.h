// Ops: the contract between the model and every backend.
//
// The forward pass (model/forward.cc) is written in these ops, at the granularity of the paper; a
// backend implements the primitives and may override the fused ones, whose default bodies
// (compose.cc) are their unfused steps and so define them. ops/ref judges every backend with one
// test body (ops_test.cc).
//
// Rules for all ops
// - Pointers are device memory. Row-major, rows contiguous, n = batch.n_rows where a batch is
// given.
// - An output never overlaps an input unless the op says "in place".
// - Calls only enqueue work, in order; nothing is read on the host before sync(). No op allocates.
// - The result for a row depends on that row's inputs only, never on the other rows of the batch or
// on how
//   a sequence was cut into steps: every reduction has a fixed order.
// - Arithmetic is f32 on f32 activations; weights are decoded exactly. Sums of squares and softmax
//   denominators may be wider.
// - A backend may round the activations of products with quantised weights, finer than the model
// was
//   trained with, where it says so (backend/cpu/kernels/kernels.h) and where the caller has not
//   asked for exact products (BackendOptions).
// Section numbers are those of the model description in docs/paper_to_code.md.
#pragma once

#include <cstdint>
#include <span>

#include "narwhal/candidates.h"
#include "ops/types.h"
#include "tensor/weight.h"

namespace narwhal {

// Parameters of one hyper-connection site (section 3).
struct HcParams {
  Weight fn;                     // [n_hc * d -> n_hc * (2 + n_hc)]; head: [n_hc * d -> n_hc]
  const float* base = nullptr;   // one per output of fn
  const float* scale = nullptr;  // pre, post, comb; head: one
  int n_hc = 0;
  int64_t d = 0;
  int sinkhorn_iterations = 0;
  float hc_eps = 0, rms_eps = 0;

  int n_mixes() const { return n_hc * (2 + n_hc); }
};

// A compressor at work (section 7). `overlap` = ratio 4: rows pool two windows and k, s are 2 * dim
// wide.
struct CompressorParams {
  int ratio = 0;
  bool overlap = false;
  const float* norm = nullptr;  // [dim]
  float rms_eps = 0;
  const float* rope_freq = nullptr;  // [rope / 2] of compressed layers
  int rope = 0;
  Ring k_ring, s_ring;  // f32 rows of `width`
  PagedRows out;        // format.kind selects FP8 rows, Hadamard + FP4 rows, or f32

  int64_t width() const { return (overlap ? 2 : 1) * int64_t{out.format.dim}; }
};

struct AttentionParams {
  int n_heads = 0;
  int head_dim = 0;
  int window = 0;
  RowFormat row;                          // of window rows
  const std::byte* batch_rows = nullptr;  // [n][row.bytes()] this step's own rows
  Ring ring;                              // older rows
  int ratio = 0;                          // 0: window only
  PagedRows compressed;                   // ratio > 0
  const int32_t* selected = nullptr;      // [n][top_k] ascending row ids; null: all visible rows
  const int32_t* n_selected = nullptr;    // [n]
  int top_k = 0;
  const float* sinks = nullptr;  // [n_heads]
};

struct IndexParams {
  int n_heads = 0;
  int top_k = 0;
  int max_rows = 0;    // most rows any query of this step may see
  int score_rows = 0;  // queries whose scores are held at once
  PagedRows rows;      // index rows
};

// One of several products of the same input.
struct Product {
  const Weight* w = nullptr;
  float* y = nullptr;  // [n][w->n_out]
};

struct ExpertParams {
  Weight w1, w3, w2;  // gate, up [d -> inner], down [inner -> d]; stacks for routed experts
  float limit = 0;    // SwiGLU clamp
};

class Ops {
 public:
  virtual ~Ops() = default;

  // Waits for everything enqueued; the only place where a device fault shows.
  virtual void sync() {}

  // Of the ops called in between (class Independent), none reads or overwrites what another writes:
  // a backend may run them at the same time. Otherwise they run in order.
  virtual void begin_independent() {}
  virtual void end_independent() {}

  // ---- Primitives
  // ---------------------------------------------------------------------------------

  // cos and sin of the angle of every pair i < rope / 2 at each row's position (section 5):
  // angle = f32(position) * freq[i], one f32 rounding, then reduced accurately.
  // out [n][rope / 2][2] = (cos, sin).
  virtual void rope_table(const BatchRows& b, const float* freq, int rope, float* out) = 0;

  // X[r][h] = row token[r] of `table`, for all n_hc streams (section 2). X [n][n_hc][d].
  virtual void embed(const BatchRows& b, const Weight& table, int n_hc, float* X) = 0;

  // y = W x for each of n rows. x [n][n_in], y [n][n_out].
  virtual void matmul(const Weight& w, int n, const float* x, float* y) = 0;

  // Block-diagonal: outputs are cut into n_groups equal parts, part g sees inputs
  // [g * n_in, (g + 1) * n_in) of x (section 9, wo_a). x [n][n_groups * n_in], y [n][n_out].
  virtual void grouped_matmul(const Weight& w, int n_groups, int n, const float* x, float* y) = 0;

  // y = w * x / rms(x), rms over d with eps inside the root. y may be x.
  virtual void rms_norm(int n, int64_t d, const float* x, const float* w, float eps, float* y) = 0;

  // a += b, n values.
  virtual void add(int64_t n, const float* b, float* a) = 0;

  // From mixes = fn X (unnormalised) to gates, in place: mixes *= 1 / rms(X[r] as one vector); then
  // pre, post and the Sinkhorn-normalised comb (section 3). mixes [n][pre H | post H | comb H x H].
  virtual void hc_gates(const HcParams& p, int n, const float* X, float* mixes) = 0;

  // As hc_gates for the final reduction: H weights, no post, no comb. mixes [n][H].
  virtual void hc_head_gates(const HcParams& p, int n, const float* X, float* mixes) = 0;

  // x[r] = sum_h gates[r][h] X[r][h]. `stride` = values per row of gates. x [n][d].
  virtual void hc_sum(const HcParams& p, int n, const float* X, const float* gates, int stride,
                      float* x) = 0;

  // X[k] = post[k] out + sum_j comb[j][k] X[j], in place on X.
  virtual void hc_post(const HcParams& p, int n, const float* out, const float* gates,
                       float* X) = 0;

  // Per head: q / rms(q), unweighted (section 4.3). In place, q [n][n_heads][dim].
  virtual void head_norm(int n, int n_heads, int dim, float eps, float* q) = 0;

  // Rotates the last `rope` dims of each head by the row's angle, or back (section 5). In place,
  // x [n][n_heads][dim]; table from rope_table.
  virtual void rope_tail(int n, int n_heads, int dim, int rope, const float* table, bool inverse,
                         float* x) = 0;

  // Encodes rows in `format` (section 6). kAttention: FP8 nope, BF16 tail; kIndex: Hadamard, then
  // FP4. x [n][dim], out [n][format.bytes()].
  virtual void encode_rows(const RowFormat& format, int n, const float* x, std::byte* out) = 0;

  // Index queries: Hadamard over each head, then the FP4 round trip (section 8.1); nothing for
  // kF32. In place, q [n][n_heads][dim].
  virtual void index_query(const RowFormat& format, int n, int n_heads, float* q) = 0;

  // s[r] += ape[position mod ratio], in place; s [n][width], ape [ratio][width] (section 7).
  virtual void add_ape(const BatchRows& b, const Weight& ape, int ratio, float* s) = 0;

  // For each row that closes a window: pools k by softmax of s per channel over the window (and,
  // with overlap, the window before), normalises, rotates at the window's first position, encodes
  // and appends row position / ratio (section 7). Tokens older than the step come from the rings.
  // k, s [n][width].
  virtual void compress(const BatchRows& b, const CompressorParams& p, const float* k,
                        const float* s) = 0;

  // Copies each sequence's newest rows of this step into its ring, at most ring.capacity of them.
  // src [n][ring.row_bytes].
  virtual void ring_store(const BatchRows& b, const Ring& ring, const std::byte* src) = 0;

  // score[c] = sum_h w[h] max(0, q[h] . row_c) for visible rows c (section 8.4; w already scaled).
  // q [n][n_heads][dim], w [n][n_heads], scores [n][max_rows] (n <= score_rows here and in top_k).
  virtual void index_scores(const BatchRows& b, const IndexParams& p, const float* q,
                            const float* w, float* scores) = 0;

  // The min(top_k, visible) visible rows of largest score, the lower id first on equal scores,
  // stored in ascending order (section 8.5). NaN counts as -inf.
  virtual void top_k(const BatchRows& b, const IndexParams& p, const float* scores,
                     int32_t* selected, int32_t* n_selected) = 0;

  // Softmax attention with a sink over window rows and compressed rows (section 9); keys are
  // values. Sums run over the window by ascending position, then compressed rows ascending. q, out
  // [n][n_heads][head_dim].
  virtual void attention(const BatchRows& b, const AttentionParams& p, const float* q,
                         float* out) = 0;

  // Expert choice (section 10): s = sqrt(softplus(logits)); ids = the k largest of s + bias, or row
  // token of tid2eid; weights = scale * s / sum s over the chosen, unbiased. Ids ascend.
  // logits [n][n_experts]; bias or tid2eid is null. ids, weights [n][k].
  virtual void route(const BatchRows& b, const float* logits, int n_experts, const float* bias,
                     const int32_t* tid2eid, int k, float scale, int32_t* ids, float* weights) = 0;

  // y[r] = sum over r's experts, ascending id, of w2_e (silu(min(w1_e x, L)) clamp(w3_e x, -L, L)
  // weight) x, y [n][d]; hidden [n][k][inner] is scratch that holds the hidden rows afterwards.
  virtual void routed_experts(const ExpertParams& p, int n, int k, const float* x,
                              const int32_t* ids, const float* weights, float* hidden,
                              float* y) = 0;

  // g = silu(min(g, L)) clamp(u, -L, L), in place on g, n values (section 10).
  virtual void swiglu(int64_t n, float limit, const float* u, float* g) = 0;

  // out[i] = src row index[i]; rows of d values, n_out rows.
  virtual void gather_rows(int n_out, const int32_t* index, int64_t d, const float* src,
                           float* out) = 0;

  // The Candidates of each row: its Candidates::kMost largest logits with their ids, the larger
  // first, the lower id first among equals; first_nan. NaN counts as -inf. Past n, ids are -1 and
  // logits -inf. logits [n][n_vocab], best [n].
  virtual void best_logits(int n, int n_vocab, const float* logits, Candidates* best) = 0;

  // ---- Fused ops: default bodies in compose.cc
  // ------------------------------------------------------

  // matmul for each of them, all with the same n_in: one pass over x.
  virtual void matmuls(std::span<const Product> products, int n, const float* x);

  // Sublayer input: gates from X, the gated sum, its norm. gates [n][n_mixes], x [n][d].
  virtual void hc_pre(const HcParams& p, const float* norm, int n, const float* X, float* gates,
                      float* x);

  // From one sublayer to the next: hc_post with `done` and its gates, then hc_pre with `next`,
  // whose gates replace them.
  virtual void hc_next(const HcParams& done, const HcParams& next, const float* norm, int n,
                       const float* out, float* gates, float* X, float* x);

  // Head input: y = rms_norm(hc_head reduction of X). gates [n][H], y [n][d].
  virtual void hc_head(const HcParams& p, const float* norm, int n, const float* X, float* gates,
                       float* y);

  // q heads: unweighted norm, then rope on the tail. In place.
  virtual void head_norm_rope(int n, int n_heads, int dim, int rope, float eps, const float* table,
                              float* q);

  // The KV rows of this step: norm, rope on the tail, encoding. kv [n][dim] in place, rows
  // [n][format.bytes()].
  virtual void make_kv_rows(const RowFormat& format, int n, int rope, const float* norm, float eps,
                            const float* table, float* kv, std::byte* rows);

  // A compressor's share of a step: add_ape, compress, and k and s into their rings. s is used up.
  virtual void compressor_step(const BatchRows& b, const CompressorParams& p, const Weight& ape,
                               const float* k, float* s);

  // Index queries: rope on the tail, then index_query. In place, q [n][n_heads][dim].
  virtual void index_heads(const RowFormat& format, int n, int n_heads, int rope,
                           const float* table, float* q);

  // attention; the rope of the values undone on the tail of each head; then the step's rows into
  // the ring, whose oldest rows its queries still read.
  virtual void attention_step(const BatchRows& b, const AttentionParams& p, int rope,
                              const float* table, const float* q, float* out);

  // Scores and selection, score_rows queries at a time; scores [score_rows][max_rows].
  virtual void index_select(const BatchRows& b, const IndexParams& p, const float* q,
                            const float* w, float* scores, int32_t* selected, int32_t* n_selected);

  // y += shared expert of x (section 10). gate, up [n][inner] and down [n][d] are scratch.
  virtual void shared_expert(const ExpertParams& p, int n, const float* x, float* gate, float* up,
                             float* down, float* y);

  // routed_experts, then shared_expert.
  struct ExpertScratch {
    float *hidden, *gate, *up, *down;  // of the two ops
  };
  virtual void experts(const ExpertParams& routed, const ExpertParams& shared, int n, int k,
                       const float* x, const int32_t* ids, const float* weights,
                       const ExpertScratch& scratch, float* y);
};

// The ops called while one of these lives are independent of each other.
//
//   {
//     const Independent ops_here(ops);
//     ops.head_norm_rope(...);
//     ops.make_kv_rows(...);
//   }
class Independent {
 public:
  explicit Independent(Ops& ops) : ops_(ops) { ops_.begin_independent(); }
  ~Independent() { ops_.end_independent(); }
  Independent(const Independent&) = delete;
  Independent& operator=(const Independent&) = delete;

 private:
  Ops& ops_;
};

}  // namespace narwhal
