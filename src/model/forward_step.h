// What the parts of one layer share while a step runs through it.
#pragma once

#include "model/forward.h"

namespace narwhal {

struct Forward::Step {
  const BatchRows& rows;
  const Activations& a;
  const LayerWeights& w;
  LayerKv kv;
  int layer;
  LayerKind kind;

  int n() const { return rows.n_rows; }
  int ratio() const { return static_cast<int>(kind); }
  // cos and sin of this layer's frequencies at the rows' positions.
  const float* rope() const {
    return kind == LayerKind::kSliding ? a.rope_sliding : a.rope_compressed;
  }
};

// Vectors are stored as F32 (bind_weights has checked).
inline const float* f32(const Weight& w) { return reinterpret_cast<const float*>(w.data); }

}  // namespace narwhal
