// Traffic: what one token must read and multiply at least, counted from the tensor table and the
// layout of the KV rows. The roofline of a run is these bytes at the machine's read bandwidth, or
// these multiply-adds at its integer peak.
//
//   const WeightTraffic w = weight_traffic(config, weights);
//   w.bytes + kv_read_bytes(config, layout, position)      // decode of one token at `position`
//
// Counted: every weight once (of the routed experts those a token uses, of the embedding, the hash
// table and the position biases one row), every visible KV row once. Not counted: activations and
// the compressors' rings, which stay in cache.
#pragma once

#include <cstdint>

#include "model/config.h"
#include "model/kv_layout.h"
#include "model/weights.h"

namespace narwhal::bench {

// One decoded token. The head's part is contained in the totals and given apart because a prompt
// needs it for its last token only.
struct WeightTraffic {
  int64_t bytes = 0, head_bytes = 0;
  int64_t macs = 0, head_macs = 0;  // multiply-adds of the linear maps
};

// `weights` needs types and shapes only; data may be null.
WeightTraffic weight_traffic(const Config& config, Weights weights);

// Types and shapes of a file of this shape, by role; no data. For plans without a file.
Weights shape_weights(const Config& config, DType (*type_of)(TensorRole));

// KV rows that the token at `position` reads in all layers: window rows, compressed rows (of CSA
// layers the chosen ones) and index rows.
int64_t kv_read_bytes(const Config& config, const KvLayout& layout, int64_t position);

// Multiply-adds of the token at `position` with those rows: scores, sums of values, index scores.
int64_t attention_macs(const Config& config, int64_t position);

// Multiply-adds of the tokens [begin, end) computed as a prompt with logits of the last one.
double prefill_macs(const Config& config, const WeightTraffic& w, int64_t begin, int64_t end);

// Part of a limit that was reached: 0 where there is no limit to compare with.
inline double fraction(double reached, double limit) { return limit > 0 ? reached / limit : 0; }

}  // namespace narwhal::bench
