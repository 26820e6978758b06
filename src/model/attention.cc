// Attention (model sections 4, 9): queries of low rank, one KV row per token that is key and value
// for every head, a sliding window plus compressed rows, and an output projection in groups.
#include "model/forward_step.h"

namespace narwhal {

// Everything that is a product of the sublayer's input.
void Forward::project(const Step& t) {
  const Activations& a = t.a;
  const LayerWeights& w = t.w;
  const Product products[] = {
      {&w.wq_a, a.qr},
      {&w.wkv, a.kv},
      {&w.compressor.wkv, a.k},
      {&w.compressor.wgate, a.s},
      {&w.index_compressor.wkv, a.index_k},
      {&w.index_compressor.wgate, a.index_s},
      {&w.index_proj, a.index_w},
  };
  const size_t count = t.kind == LayerKind::kSliding ? 2 : t.kind == LayerKind::kHca ? 4 : 7;
  ops_.matmuls(std::span(products).first(count), t.n(), a.x);
}

void Forward::attention(const Step& t) {
  const Activations& a = t.a;
  const LayerWeights& w = t.w;
  const int n = t.n();

  const bool csa = t.kind == LayerKind::kCsa;

  project(t);
  ops_.rms_norm(n, c_.q_lora, a.qr, f32(w.q_norm), c_.rms_eps, a.qr);
  const Product from_qr[] = {{&w.wq_b, a.q}, {&w.index_wq_b, a.index_q}};
  ops_.matmuls(std::span(from_qr).first(csa ? 2 : 1), n, a.qr);
  {
    const Independent ops_here(ops_);
    ops_.head_norm_rope(n, c_.n_heads, c_.head_dim, c_.rope_dim, c_.rms_eps, t.rope(), a.q);
    ops_.make_kv_rows(layout_.row, n, c_.rope_dim, f32(w.kv_norm), c_.rms_eps, t.rope(), a.kv,
                      a.kv_rows);
    if (t.kind != LayerKind::kSliding)
      compressor(t, w.compressor, t.kv.rows, t.kv.k, t.kv.s, a.k, a.s);
    if (csa) index_inputs(t);
  }
  if (csa) index_select(t);

  const AttentionParams p{c_.n_heads,
                          c_.head_dim,
                          c_.window,
                          layout_.row,
                          a.kv_rows,
                          t.kv.window,
                          t.ratio(),
                          t.kv.rows,
                          csa ? a.selected : nullptr,
                          csa ? a.n_selected : nullptr,
                          c_.index_top_k,
                          f32(w.sinks)};
  ops_.attention_step(t.rows, p, c_.rope_dim, t.rope(), a.q, a.o);

  ops_.grouped_matmul(w.wo_a, c_.o_groups, n, a.o, a.o_low);
  ops_.matmul(w.wo_b, n, a.o_low, a.out);
}

}  // namespace narwhal
