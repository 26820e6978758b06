// The indexer of CSA layers (model section 8): which compressed rows each query attends to.
#include "model/forward_step.h"

namespace narwhal {

void Forward::index_inputs(const Step& t) {
  const Activations& a = t.a;
  compressor(t, t.w.index_compressor, t.kv.index_rows, t.kv.index_k, t.kv.index_s, a.index_k,
             a.index_s);
  ops_.index_heads(layout_.index_row, t.n(), c_.n_index_heads, c_.rope_dim, t.rope(), a.index_q);
}

// The weights of the heads, index_w, are a product of x. The common scale
// index_dim^-0.5 n_index_heads^-0.5 is positive and cannot change the selection, so it is left out.
void Forward::index_select(const Step& t) {
  const Activations& a = t.a;
  const IndexParams p{c_.n_index_heads, c_.index_top_k, static_cast<int>(a.max_index_rows),
                      a.score_rows, t.kv.index_rows};
  ops_.index_select(t.rows, p, a.index_q, a.index_w, a.scores, a.selected, a.n_selected);
}

}  // namespace narwhal
