#include "bench/traffic.h"

#include <algorithm>

namespace narwhal::bench {
namespace {

// Rows a query at `position` attends to, and index rows it scores, per layer of a kind.
struct VisibleRows {
  int64_t window = 0, compressed = 0, index = 0;
};

VisibleRows rows_of(const Config& c, LayerKind kind, int64_t position) {
  VisibleRows v;
  v.window = std::min<int64_t>(c.window, position + 1);
  if (kind == LayerKind::kSliding) return v;
  const int64_t all = visible_rows(position, static_cast<int>(kind));
  if (kind == LayerKind::kHca) {
    v.compressed = all;
  } else {
    v.compressed = std::min<int64_t>(c.index_top_k, all);
    v.index = all;
  }
  return v;
}

constexpr LayerKind kKinds[] = {LayerKind::kSliding, LayerKind::kCsa, LayerKind::kHca};

}  // namespace

WeightTraffic weight_traffic(const Config& config, Weights weights) {
  WeightTraffic t;
  each_tensor(config, weights, [&](const TensorSpec& spec, const Weight& w) {
    int64_t bytes = w.n_bytes(), macs = w.n_in * w.n_out;
    switch (spec.role) {
      case TensorRole::kVector:
        macs = 0;
        break;
      case TensorRole::kEmbedding:
      case TensorRole::kHashTable:
        bytes = w.row_bytes();
        macs = 0;
        break;
      case TensorRole::kExpertGate:
      case TensorRole::kExpertUp:
      case TensorRole::kExpertDown:
        bytes = config.n_experts_used * w.matrix_bytes();
        macs *= config.n_experts_used;
        break;
      case TensorRole::kCompressor:
      case TensorRole::kIndexer:
        if (spec.name.ends_with("_ape.weight")) bytes = w.row_bytes(), macs = 0;
        break;
      default:
        break;
    }
    t.bytes += bytes;
    t.macs += macs;
    if (spec.layer < 0 && spec.role != TensorRole::kEmbedding) {
      t.head_bytes += bytes;
      t.head_macs += macs;
    }
  });
  return t;
}

Weights shape_weights(const Config& config, DType (*type_of)(TensorRole)) {
  Weights weights;
  weights.layers.resize(config.n_layers);
  each_tensor(config, weights, [&](const TensorSpec& spec, Weight& w) {
    const auto& d = spec.dims;
    w = Weight{nullptr, type_of(spec.role), d[0], d.size() > 1 ? d[1] : 1, d.size() > 2 ? d[2] : 1};
  });
  return weights;
}

int64_t kv_read_bytes(const Config& config, const KvLayout& layout, int64_t position) {
  int64_t bytes = 0;
  for (const LayerKind kind : kKinds) {
    const VisibleRows v = rows_of(config, kind, position);
    bytes += config.n_layers_of(kind) *
             ((v.window + v.compressed) * layout.row.bytes() + v.index * layout.index_row.bytes());
  }
  return bytes;
}

int64_t attention_macs(const Config& config, int64_t position) {
  int64_t macs = 0;
  for (const LayerKind kind : kKinds) {
    const VisibleRows v = rows_of(config, kind, position);
    macs += config.n_layers_of(kind) *
            (2 * (v.window + v.compressed) * config.n_heads * config.head_dim +
             v.index * config.n_index_heads * config.index_dim);
  }
  return macs;
}

double prefill_macs(const Config& config, const WeightTraffic& w, int64_t begin, int64_t end) {
  double macs = static_cast<double>(w.macs - w.head_macs) * static_cast<double>(end - begin) +
                static_cast<double>(w.head_macs);
  for (int64_t p = begin; p < end; p++) macs += static_cast<double>(attention_macs(config, p));
  return macs;
}

}  // namespace narwhal::bench
