// The compressor (model section 7): every ratio tokens become one row, pooled channel by channel.
// The same code serves attention rows and, at the indexer's width, index rows.
#include "model/forward_step.h"

namespace narwhal {

void Forward::compressor(const Step& t, const CompressorWeights& w, const PagedRows& rows,
                         const Ring& k_ring, const Ring& s_ring, float* k, float* s) {
  const int n = t.n();
  ops_.matmul(w.wkv, n, t.a.x, k);
  ops_.matmul(w.wgate, n, t.a.x, s);
  ops_.add_ape(t.rows, w.ape, t.ratio(), s);
  const CompressorParams p{t.ratio(),
                           t.kind == LayerKind::kCsa,
                           f32(w.norm),
                           c_.rms_eps,
                           freq_compressed_,
                           c_.rope_dim,
                           k_ring,
                           s_ring,
                           rows};
  ops_.compress(t.rows, p, k, s);
  ops_.ring_store(t.rows, k_ring, reinterpret_cast<const std::byte*>(k));
  ops_.ring_store(t.rows, s_ring, reinterpret_cast<const std::byte*>(s));
}

}  // namespace narwhal
