#include "model/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>

#include "quant/quant.h"

namespace narwhal {
namespace {

using Dims = std::vector<int64_t>;

// Calls f(name, field, role, dims) for each tensor outside the layers.
template <class W, class F>
void each_global(const Config& c, W& w, F&& f) {
  const int64_t streams = int64_t{c.n_hc} * c.d_model;
  f("token_embd.weight", w.token_embd, TensorRole::kEmbedding, Dims{c.d_model, c.n_vocab});
  f("output.weight", w.output, TensorRole::kOutput, Dims{c.d_model, c.n_vocab});
  f("output_norm.weight", w.output_norm, TensorRole::kVector, Dims{c.d_model});
  f("output_hc_fn.weight", w.hc_head.fn, TensorRole::kHcFn, Dims{streams, c.n_hc});
  f("output_hc_base.weight", w.hc_head.base, TensorRole::kVector, Dims{c.n_hc});
  f("output_hc_scale.weight", w.hc_head.scale, TensorRole::kVector, Dims{1});
}

template <class W, class F>
void each_hc(const Config& c, const std::string& prefix, W& hc, F&& f) {
  f(prefix + "_fn.weight", hc.fn, TensorRole::kHcFn,
    Dims{int64_t{c.n_hc} * c.d_model, c.hc_mixes()});
  f(prefix + "_base.weight", hc.base, TensorRole::kVector, Dims{c.hc_mixes()});
  f(prefix + "_scale.weight", hc.scale, TensorRole::kVector, Dims{3});
}

template <class W, class F>
void each_compressor(const Config& c, const std::string& prefix, int64_t d, int64_t ratio,
                     TensorRole role, W& comp, F&& f) {
  const int64_t width = (ratio == 4 ? 2 : 1) * d;
  f(prefix + "_kv.weight", comp.wkv, role, Dims{c.d_model, width});
  f(prefix + "_gate.weight", comp.wgate, role, Dims{c.d_model, width});
  f(prefix + "_ape.weight", comp.ape, role, Dims{width, ratio});
  f(prefix + "_norm.weight", comp.norm, TensorRole::kVector, Dims{d});
}

template <class W, class F>
void each_attention(const Config& c, const std::string& p, W& w, F&& f) {
  const int64_t heads = int64_t{c.n_heads} * c.head_dim;
  f(p + "attn_norm.weight", w.attn_norm, TensorRole::kVector, Dims{c.d_model});
  f(p + "attn_q_a.weight", w.wq_a, TensorRole::kAttention, Dims{c.d_model, c.q_lora});
  f(p + "attn_q_a_norm.weight", w.q_norm, TensorRole::kVector, Dims{c.q_lora});
  f(p + "attn_q_b.weight", w.wq_b, TensorRole::kAttention, Dims{c.q_lora, heads});
  f(p + "attn_kv.weight", w.wkv, TensorRole::kAttention, Dims{c.d_model, c.head_dim});
  f(p + "attn_kv_a_norm.weight", w.kv_norm, TensorRole::kVector, Dims{c.head_dim});
  f(p + "attn_sinks.weight", w.sinks, TensorRole::kVector, Dims{c.n_heads});
  f(p + "attn_output_a.weight", w.wo_a, TensorRole::kAttention,
    Dims{heads / c.o_groups, int64_t{c.o_groups} * c.o_lora});
  f(p + "attn_output_b.weight", w.wo_b, TensorRole::kAttention,
    Dims{int64_t{c.o_groups} * c.o_lora, c.d_model});
}

template <class W, class F>
void each_moe(const Config& c, const std::string& p, bool hash, W& w, F&& f) {
  f(p + "ffn_norm.weight", w.ffn_norm, TensorRole::kVector, Dims{c.d_model});
  f(p + "ffn_gate_inp.weight", w.router, TensorRole::kRouter, Dims{c.d_model, c.n_experts});
  if (hash)
    f(p + "ffn_gate_tid2eid.weight", w.tid2eid, TensorRole::kHashTable,
      Dims{c.n_experts_used, c.n_vocab});
  else
    f(p + "exp_probs_b.bias", w.router_bias, TensorRole::kVector, Dims{c.n_experts});
  const Dims in{c.d_model, c.d_expert, c.n_experts}, out{c.d_expert, c.d_model, c.n_experts};
  f(p + "ffn_gate_exps.weight", w.gate_exps, TensorRole::kExpertGate, in);
  f(p + "ffn_up_exps.weight", w.up_exps, TensorRole::kExpertUp, in);
  f(p + "ffn_down_exps.weight", w.down_exps, TensorRole::kExpertDown, out);
  f(p + "ffn_gate_shexp.weight", w.gate_shexp, TensorRole::kShared, Dims{c.d_model, c.d_expert});
  f(p + "ffn_up_shexp.weight", w.up_shexp, TensorRole::kShared, Dims{c.d_model, c.d_expert});
  f(p + "ffn_down_shexp.weight", w.down_shexp, TensorRole::kShared, Dims{c.d_expert, c.d_model});
}

template <class W, class F>
void each_layer(const Config& c, int layer, W& w, F&& f) {
  const std::string p = fmt::format("blk.{}.", layer);
  const LayerKind kind = c.layers[layer];
  each_hc(c, p + "hc_attn", w.hc_attn, f);
  each_attention(c, p, w, f);
  if (kind != LayerKind::kSliding)
    each_compressor(c, p + "attn_compressor", c.head_dim, static_cast<int>(kind),
                    TensorRole::kCompressor, w.compressor, f);
  if (kind == LayerKind::kCsa) {
    f(p + "indexer.attn_q_b.weight", w.index_wq_b, TensorRole::kIndexer,
      Dims{c.q_lora, int64_t{c.n_index_heads} * c.index_dim});
    f(p + "indexer.proj.weight", w.index_proj, TensorRole::kIndexer,
      Dims{c.d_model, c.n_index_heads});
    each_compressor(c, p + "indexer_compressor", c.index_dim, 4, TensorRole::kIndexer,
                    w.index_compressor, f);
  }
  each_hc(c, p + "hc_ffn", w.hc_ffn, f);
  each_moe(c, p, c.is_hash_layer(layer), w, f);
}

std::string dims_text(const int64_t* dims, size_t n) {
  return fmt::format("[{}]", fmt::join(dims, dims + n, ", "));
}

Status bind(const gguf::File& file, const std::string& name, TensorRole role, const Dims& dims,
            Weight& w) {
  const gguf::Tensor* t = file.tensor(name);
  if (!t)
    return bad_input(
        fmt::format("{}: tensor {} is missing; the file is incomplete or of another architecture",
                    file.name(), name));
  bool same = true;  // writers differ in whether they count trailing dimensions of 1
  for (int i = 0; same && i < 4; i++)
    same = t->dims[i] == (i < static_cast<int>(dims.size()) ? dims[i] : 1);
  if (!same)
    return bad_input(fmt::format("{}: tensor {} has shape {}, expected {}", file.name(), name,
                                 dims_text(t->dims.data(), t->n_dims),
                                 dims_text(dims.data(), dims.size())));
  if (!type_allowed(role, t->type))
    return bad_input(fmt::format(
        "{}: tensor {} is stored as {}, which its role does not allow; convert the model again",
        file.name(), name, dtype_name(t->type)));
  w = Weight{t->data, t->type, dims[0], dims.size() > 1 ? dims[1] : 1,
             dims.size() > 2 ? dims[2] : 1};
  return ok_status();
}

// An expert id past the last would make the router read foreign memory.
Status check_hash_table(const Config& c, const Weight& table, const std::string& where) {
  const int64_t n = table.n_in * table.n_out;
  for (int64_t i = 0; i < n; i++) {
    int32_t e = 0;
    std::memcpy(&e, table.data + i * sizeof e, sizeof e);
    if (e < 0 || e >= c.n_experts)
      return bad_input(fmt::format("{}: expert id {} at entry {}, expected 0 to {}", where, e, i,
                                   c.n_experts - 1));
  }
  return ok_status();
}

}  // namespace

void each_tensor(const Config& config, Weights& weights,
                 const std::function<void(const TensorSpec&, Weight&)>& f) {
  int layer = -1;
  const auto give = [&](std::string name, Weight& field, TensorRole role, Dims dims) {
    f({std::move(name), layer, role, std::move(dims)}, field);
  };
  each_global(config, weights, give);
  for (layer = 0; layer < config.n_layers; layer++)
    each_layer(config, layer, weights.layers[layer], give);
}

std::vector<TensorSpec> tensor_table(const Config& config) {
  std::vector<TensorSpec> table;
  Weights weights;
  weights.layers.resize(config.n_layers);
  each_tensor(config, weights, [&](const TensorSpec& spec, Weight&) { table.push_back(spec); });
  return table;
}

std::vector<TensorSpec> mtp_table(const Config& config) {
  Config c = config;
  c.n_layers = 1;
  c.layers = {LayerKind::kSliding};
  c.n_hash_layers = 0;
  std::vector<TensorSpec> table;
  for (TensorSpec& t : tensor_table(c)) {
    if (t.role == TensorRole::kEmbedding || t.role == TensorRole::kOutput) continue;
    if (t.name.starts_with("blk.0."))
      t.name = "mtp.0." + t.name.substr(6);
    else if (t.name == "output_norm.weight")
      t.name = "mtp.0.norm.weight";
    else
      t.name = "mtp.0.hc_head" + t.name.substr(9);  // output_hc_*
    table.push_back(std::move(t));
  }
  for (const char* name : {"mtp.0.e_proj.weight", "mtp.0.h_proj.weight"})
    table.push_back({name, 0, TensorRole::kAttention, {c.d_model, c.d_model}});
  for (const char* name : {"mtp.0.enorm.weight", "mtp.0.hnorm.weight"})
    table.push_back({name, 0, TensorRole::kVector, {c.d_model}});
  return table;
}

bool type_allowed(TensorRole role, DType type) {
  switch (role) {
    case TensorRole::kVector:
      return type == DType::kF32;
    case TensorRole::kHashTable:
      return type == DType::kI32;
    default:
      return quant::can_decode(type);
  }
}

Result<Weights> bind_weights(const Config& config, const gguf::File& file) {
  Weights weights;
  Status status;
  weights.layers.resize(config.n_layers);
  each_tensor(config, weights, [&](const TensorSpec& spec, Weight& w) {
    if (status.ok()) status = bind(file, spec.name, spec.role, spec.dims, w);
  });
  for (int i = 0; i < config.n_layers && status.ok(); i++) {
    const LayerWeights& w = weights.layers[i];
    if (w.gate_exps.type != w.up_exps.type)
      status = bad_input(
          fmt::format("{}: blk.{}: gate experts are {} and up experts {}, expected one type",
                      file.name(), i, dtype_name(w.gate_exps.type), dtype_name(w.up_exps.type)));
    else if (config.is_hash_layer(i))
      status = check_hash_table(config, w.tid2eid,
                                fmt::format("{}: blk.{}.ffn_gate_tid2eid", file.name(), i));
  }
  if (!status.ok()) return status;
  return weights;
}

}  // namespace narwhal
