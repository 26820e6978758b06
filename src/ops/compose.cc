#include <algorithm>

#include "ops/ops.h"

namespace narwhal {

void Ops::matmuls(std::span<const Product> products, int n, const float* x) {
  for (const Product& p : products) matmul(*p.w, n, x, p.y);
}

void Ops::hc_pre(const HcParams& p, const float* norm, int n, const float* X, float* gates,
                 float* x) {
  matmul(p.fn, n, X, gates);
  hc_gates(p, n, X, gates);
  hc_sum(p, n, X, gates, p.n_mixes(), x);
  rms_norm(n, p.d, x, norm, p.rms_eps, x);
}

void Ops::hc_next(const HcParams& done, const HcParams& next, const float* norm, int n,
                  const float* out, float* gates, float* X, float* x) {
  hc_post(done, n, out, gates, X);
  hc_pre(next, norm, n, X, gates, x);
}

void Ops::hc_head(const HcParams& p, const float* norm, int n, const float* X, float* gates,
                  float* y) {
  matmul(p.fn, n, X, gates);
  hc_head_gates(p, n, X, gates);
  hc_sum(p, n, X, gates, p.n_hc, y);
  rms_norm(n, p.d, y, norm, p.rms_eps, y);
}

void Ops::head_norm_rope(int n, int n_heads, int dim, int rope, float eps, const float* table,
                         float* q) {
  head_norm(n, n_heads, dim, eps, q);
  rope_tail(n, n_heads, dim, rope, table, false, q);
}

void Ops::make_kv_rows(const RowFormat& format, int n, int rope, const float* norm, float eps,
                       const float* table, float* kv, std::byte* rows) {
  rms_norm(n, format.dim, kv, norm, eps, kv);
  rope_tail(n, 1, format.dim, rope, table, false, kv);
  encode_rows(format, n, kv, rows);
}

void Ops::compressor_step(const BatchRows& b, const CompressorParams& p, const Weight& ape,
                          const float* k, float* s) {
  add_ape(b, ape, p.ratio, s);
  compress(b, p, k, s);
  ring_store(b, p.k_ring, reinterpret_cast<const std::byte*>(k));
  ring_store(b, p.s_ring, reinterpret_cast<const std::byte*>(s));
}

void Ops::index_heads(const RowFormat& format, int n, int n_heads, int rope, const float* table,
                      float* q) {
  rope_tail(n, n_heads, format.dim, rope, table, false, q);
  index_query(format, n, n_heads, q);
}

void Ops::attention_step(const BatchRows& b, const AttentionParams& p, int rope, const float* table,
                         const float* q, float* out) {
  attention(b, p, q, out);
  rope_tail(b.n_rows, p.n_heads, p.head_dim, rope, table, true, out);
  ring_store(b, p.ring, p.batch_rows);
}

void Ops::index_select(const BatchRows& b, const IndexParams& p, const float* q, const float* w,
                       float* scores, int32_t* selected, int32_t* n_selected) {
  for (int first = 0; first < b.n_rows; first += p.score_rows) {
    // Neither op looks at other rows of the sequence, so a part of the batch stands alone.
    const BatchRows part{std::min(p.score_rows, b.n_rows - first), b.token + first,
                         b.position + first, b.slot + first, b.first_row + first};
    index_scores(part, p, q + int64_t{first} * p.n_heads * p.rows.format.dim,
                 w + int64_t{first} * p.n_heads, scores);
    top_k(part, p, scores, selected + int64_t{first} * p.top_k, n_selected + first);
  }
}

void Ops::shared_expert(const ExpertParams& p, int n, const float* x, float* gate, float* up,
                        float* down, float* y) {
  matmul(p.w1, n, x, gate);
  matmul(p.w3, n, x, up);
  swiglu(n * p.w1.n_out, p.limit, up, gate);
  matmul(p.w2, n, gate, down);
  add(n * p.w2.n_out, down, y);
}

void Ops::experts(const ExpertParams& routed, const ExpertParams& shared, int n, int k,
                  const float* x, const int32_t* ids, const float* weights,
                  const ExpertScratch& scratch, float* y) {
  routed_experts(routed, n, k, x, ids, weights, scratch.hidden, y);
  shared_expert(shared, n, x, scratch.gate, scratch.up, scratch.down, y);
}

}  // namespace narwhal
