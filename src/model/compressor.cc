// The compressor (model section 7): every ratio tokens become one row, pooled channel by channel.
// The same code serves attention rows and, at the indexer's width, index rows; k and s are the
// projections of x (attention.cc).
#include "model/forward_step.h"

namespace narwhal {

void Forward::compressor(const Step& t, const CompressorWeights& w, const PagedRows& rows,
                         const Ring& k_ring, const Ring& s_ring, const float* k, float* s) {
  const CompressorParams p{t.ratio(),
                           t.kind == LayerKind::kCsa,
                           f32(w.norm),
                           c_.rms_eps,
                           freq_compressed_,
                           c_.rope_dim,
                           k_ring,
                           s_ring,
                           rows};
  ops_.compressor_step(t.rows, p, w.ape, k, s);
}

}  // namespace narwhal
