#include "model/forward.h"

#include "base/check.h"
#include "model/forward_step.h"
#include "model/rope.h"

namespace narwhal {
namespace {

float* upload(Backend& backend, const std::vector<float>& values) {
  const int64_t n_bytes = static_cast<int64_t>(values.size() * sizeof(float));
  auto memory = backend.allocate(n_bytes);
  NW_CHECK(memory.ok(), "{} bytes of device memory: {}", n_bytes, memory.status().message());
  backend.copy_in(*memory, values.data(), n_bytes);
  return reinterpret_cast<float*>(*memory);
}

}  // namespace

Forward::Forward(const Config& config, const Weights& weights, const KvLayout& layout,
                 Backend& backend)
    : c_(config),
      w_(weights),
      layout_(layout),
      backend_(backend),
      ops_(backend.ops()),
      freq_sliding_(upload(backend, sliding_rope_freq(config))),
      freq_compressed_(upload(backend, compressed_rope_freq(config))) {}

Forward::~Forward() {
  const int64_t n_bytes = c_.rope_dim / 2 * static_cast<int64_t>(sizeof(float));
  backend_.release(reinterpret_cast<std::byte*>(freq_sliding_), n_bytes);
  backend_.release(reinterpret_cast<std::byte*>(freq_compressed_), n_bytes);
}

HcParams Forward::hc_params(const HcWeights& w) const {
  return {w.fn,      f32(w.base), f32(w.scale), c_.n_hc, c_.d_model, c_.sinkhorn_iterations,
          c_.hc_eps, c_.rms_eps};
}

void Forward::see(std::string_view name, int layer, const float* data, int64_t n) {
  if (!observer_) return;
  ops_.sync();
  observer_(name, layer, data, n);
}

void Forward::run(const StepSize& size, const Activations& a, const KvMemory& kv) {
  NW_CHECK(size.n_rows > 0 && size.n_rows <= a.max_rows && size.n_logits <= a.max_logits,
           "step of {} rows, {} logits; activations hold {} and {}", size.n_rows, size.n_logits,
           a.max_rows, a.max_logits);
  const int n = size.n_rows;
  const BatchRows rows{n, a.token, a.position, a.slot, a.first_row};
  const int64_t n_streams = int64_t{n} * c_.n_hc * c_.d_model;

  ops_.rope_table(rows, freq_sliding_, c_.rope_dim, a.rope_sliding);
  ops_.rope_table(rows, freq_compressed_, c_.rope_dim, a.rope_compressed);
  ops_.embed(rows, w_.token_embd, c_.n_hc, a.X);
  see("streams", -1, a.X, n_streams);

  // hc_next is a sublayer's hc_post and the hc_pre of the one after it.
  const LayerWeights* w = &w_.layers[0];
  ops_.hc_pre(hc_params(w->hc_attn), f32(w->attn_norm), n, a.X, a.gates, a.x);
  for (int layer = 0; layer < c_.n_layers; layer++) {
    const Step t{rows, a, *w, layer_kv(c_, layout_, kv, layer), layer, c_.layers[layer]};
    const HcParams attn = hc_params(w->hc_attn), ffn = hc_params(w->hc_ffn);
    attention(t);
    ops_.hc_next(attn, ffn, f32(w->ffn_norm), n, a.out, a.gates, a.X, a.x);
    moe(t);
    if (layer + 1 < c_.n_layers) {
      w = &w_.layers[layer + 1];
      ops_.hc_next(ffn, hc_params(w->hc_attn), f32(w->attn_norm), n, a.out, a.gates, a.X, a.x);
    } else {
      ops_.hc_post(ffn, n, a.out, a.gates, a.X);
    }
    see("streams", layer, a.X, n_streams);
  }
  if (size.n_logits > 0) head(size.n_logits, a);
}

void Forward::head(int n, const Activations& a) {
  ops_.gather_rows(n, a.logits_rows, int64_t{c_.n_hc} * c_.d_model, a.X, a.head_X);
  ops_.hc_head(hc_params(w_.hc_head), f32(w_.output_norm), n, a.head_X, a.gates, a.head_x);
  ops_.matmul(w_.output, n, a.head_x, a.logits);
  ops_.best_logits(n, c_.n_vocab, a.logits, a.best);
}

}  // namespace narwhal
