// Attention (model sections 4, 9): queries of low rank, one KV row per token that is key and value
// for every head, a sliding window plus compressed rows, and an output projection in groups.
#include "model/forward_step.h"

namespace narwhal {

void Forward::attention(const Step& t) {
  const Activations& a = t.a;
  const LayerWeights& w = t.w;
  const int n = t.n();

  ops_.matmul(w.wq_a, n, a.x, a.qr);
  ops_.rms_norm(n, c_.q_lora, a.qr, f32(w.q_norm), c_.rms_eps, a.qr);
  ops_.matmul(w.wq_b, n, a.qr, a.q);
  ops_.head_norm_rope(n, c_.n_heads, c_.head_dim, c_.rope_dim, c_.rms_eps, t.rope(), a.q);

  ops_.matmul(w.wkv, n, a.x, a.kv);
  ops_.make_kv_rows(layout_.row, n, c_.rope_dim, f32(w.kv_norm), c_.rms_eps, t.rope(), a.kv,
                    a.kv_rows);

  if (t.kind != LayerKind::kSliding)
    compressor(t, w.compressor, t.kv.rows, t.kv.k, t.kv.s, a.k, a.s);
  if (t.kind == LayerKind::kCsa) indexer(t);

  const bool csa = t.kind == LayerKind::kCsa;
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
  ops_.attention(t.rows, p, a.q, a.o);
  ops_.ring_store(t.rows, t.kv.window,
                  a.kv_rows);  // only now: queries above still read the oldest rows

  ops_.rope_tail(n, c_.n_heads, c_.head_dim, c_.rope_dim, t.rope(), true, a.o);
  ops_.grouped_matmul(w.wo_a, c_.o_groups, n, a.o, a.o_low);
  ops_.matmul(w.wo_b, n, a.o_low, a.out);
}

}  // namespace narwhal
