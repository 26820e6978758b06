#include "model/activations.h"

#include <algorithm>

namespace narwhal {
namespace {

// Hands out consecutive, cache-line aligned pieces of one allocation.
class Placer {
 public:
  explicit Placer(std::byte* base) : base_(base) {}
  template <class T>
  void operator()(T*& p, int64_t count) {
    p = base_ ? reinterpret_cast<T*>(base_ + at_) : nullptr;
    at_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  }
  int64_t n_bytes() const { return at_; }

 private:
  std::byte* base_;
  int64_t at_ = 0;
};

// No query of a step sees more index rows than a sequence of n_ctx tokens has.
int64_t max_index_rows(const Config& c, const StepShape& shape) {
  return c.n_layers_of(LayerKind::kCsa) > 0 ? shape.n_ctx / 4 + 1 : 0;
}

}  // namespace

int64_t place_activations(const Config& c, const KvLayout& layout, const StepShape& shape,
                          std::byte* base, Activations& a) {
  const int64_t n = shape.n_rows, heads = int64_t{c.n_heads} * c.head_dim;
  const int64_t streams = int64_t{c.n_hc} * c.d_model;
  a.max_rows = shape.n_rows;
  a.max_logits = shape.n_logits;
  a.max_index_rows = max_index_rows(c, shape);
  const int64_t fitting = kScoreBytes / (4 * std::max<int64_t>(a.max_index_rows, 1));
  a.score_rows = static_cast<int>(std::min(n, std::max<int64_t>(fitting, kFewestScoreRows)));
  Placer place(base);
  place(a.token, 5 * n);
  place_inputs(shape.n_rows, a);
  place(a.rope_sliding, n * c.rope_dim);
  place(a.rope_compressed, n * c.rope_dim);
  place(a.X, n * streams);
  place(a.gates, n * c.hc_mixes());
  place(a.x, n * c.d_model);
  place(a.out, n * c.d_model);
  place(a.qr, n * c.q_lora);
  place(a.q, n * heads);
  place(a.kv, n * c.head_dim);
  place(a.kv_rows, n * layout.row.bytes());
  place(a.k, n * 2 * c.head_dim);
  place(a.s, n * 2 * c.head_dim);
  place(a.index_k, n * 2 * c.index_dim);
  place(a.index_s, n * 2 * c.index_dim);
  place(a.index_q, n * c.n_index_heads * c.index_dim);
  place(a.index_w, n * c.n_index_heads);
  place(a.scores, a.score_rows * a.max_index_rows);
  place(a.selected, n * c.index_top_k);
  place(a.n_selected, n);
  place(a.o, n * heads);
  place(a.o_low, n * c.o_groups * c.o_lora);
  place(a.router, n * c.n_experts);
  place(a.expert_ids, n * c.n_experts_used);
  place(a.expert_weights, n * c.n_experts_used);
  place(a.expert_hidden, n * c.n_experts_used * c.d_expert);
  place(a.shared_gate, n * c.d_expert);
  place(a.shared_up, n * c.d_expert);
  place(a.shared_out, n * c.d_model);
  place(a.head_X, shape.n_logits * streams);
  place(a.head_x, int64_t{shape.n_logits} * c.d_model);
  place(a.logits, int64_t{shape.n_logits} * c.n_vocab);
  place(a.best, shape.n_logits);
  return place.n_bytes();
}

void place_inputs(int n_rows, Activations& a) {
  int32_t* p = a.token;
  for (int32_t** input : {&a.position, &a.slot, &a.first_row, &a.logits_rows})
    *input = p ? p += n_rows : nullptr;
}

StepLimits step_limits(const Config& c, const StepShape& shape) {
  StepLimits limits;
  limits.n_rows = shape.n_rows;
  limits.n_index_rows = max_index_rows(c, shape);
  const int64_t widths[] = {int64_t{c.n_hc} * c.d_model,
                            int64_t{c.heads_per_group()} * c.head_dim,
                            int64_t{c.o_groups} * c.o_lora,
                            c.q_lora,
                            c.d_expert,
                            2 * c.head_dim,
                            2 * c.index_dim,
                            c.n_experts};
  limits.max_width = static_cast<int>(*std::max_element(std::begin(widths), std::end(widths)));
  limits.max_inputs = std::max<int64_t>(int64_t{c.n_heads} * c.head_dim, limits.max_width);
  limits.expert_inputs = std::max<int64_t>(c.d_model, int64_t{c.n_experts_used} * c.d_expert);
  limits.n_experts_used = c.n_experts_used;
  limits.n_experts = c.n_experts;
  limits.n_hc = c.n_hc;
  limits.d_model = c.d_model;
  limits.n_heads = c.n_heads;
  limits.head_dim = c.head_dim;
  return limits;
}

}  // namespace narwhal
