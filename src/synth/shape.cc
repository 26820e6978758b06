// The shapes that synth knows by name, and single dimensions changed by flags.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "synth/synth.h"

namespace narwhal {
namespace {

constexpr SynthDimension kDimensions[] = {
    {"layers", &Config::n_layers, "transformer layers"},
    {"hidden", &Config::d_model, "width of a residual stream"},
    {"vocab", &Config::n_vocab, "tokens"},
    {"heads", &Config::n_heads, "attention heads"},
    {"head-dim", &Config::head_dim, "values per head, the rotated ones included"},
    {"rot", &Config::rope_dim, "rotated values per head"},
    {"groups", &Config::o_groups, "output groups of heads"},
    {"q-lora", &Config::q_lora, "rank of the query projection"},
    {"o-lora", &Config::o_lora, "rank of the output projection per group"},
    {"experts", &Config::n_experts, "routed experts per layer"},
    {"experts-used", &Config::n_experts_used, "of which a token uses"},
    {"ffn", &Config::d_expert, "width of an expert"},
    {"hash-layers", &Config::n_hash_layers, "first layers that route by token id"},
    {"swa", &Config::window, "sliding window"},
    {"indexer-heads", &Config::n_index_heads, "heads of the indexer"},
    {"indexer-dim", &Config::index_dim, "values per indexer head"},
    {"indexer-topk", &Config::index_top_k, "compressed rows a query chooses"},
    {"hc", &Config::n_hc, "residual streams"},
    {"sinkhorn", &Config::sinkhorn_iterations, "Sinkhorn iterations"},
};

Config tiny_config() {
  Config c = flash_config();
  c.n_layers = 6;
  c.n_vocab = 1024;
  c.d_model = 256;
  c.n_heads = 4;
  c.head_dim = 192;
  c.q_lora = 128;
  c.o_groups = 2;
  c.o_lora = 64;
  c.window = 16;
  c.n_index_heads = 4;
  c.index_top_k = 8;
  c.n_experts = 16;
  c.n_experts_used = 2;
  c.d_expert = 256;
  return c;
}

Config minnow_config() {
  Config c = flash_config();
  c.n_layers = 7;
  c.n_vocab = 2048;
  c.d_model = 256;
  c.n_heads = 8;
  c.head_dim = 128;
  c.q_lora = 128;
  c.o_groups = 4;
  c.o_lora = 64;
  c.n_index_heads = 4;
  c.index_top_k = 128;
  c.n_experts = 6;
  c.n_experts_used = 2;
  c.d_expert = 256;
  return c;
}

Result<Config> shape_by_name(const std::string& name) {
  if (name == "flash") return flash_config();
  if (name == "minnow") return minnow_config();
  if (name == "tiny") return tiny_config();
  return usage(fmt::format("--shape {}: expected flash, minnow or tiny", name));
}

LayerKind default_kind(int layer) {
  if (layer < 2) return LayerKind::kSliding;
  return layer % 2 == 0 ? LayerKind::kCsa : LayerKind::kHca;
}

Status set_layers(const std::vector<int>& ratios, Config& c) {
  if (!ratios.empty() && static_cast<int>(ratios.size()) != c.n_layers)
    return usage(fmt::format("--ratios: {} entries for {} layers", ratios.size(), c.n_layers));
  c.layers.clear();
  for (int i = 0; i < c.n_layers; i++) {
    const int ratio = ratios.empty() ? static_cast<int>(default_kind(i)) : ratios[i];
    if (ratio != 0 && ratio != 4 && ratio != 128)
      return usage(fmt::format("--ratios: {} for layer {}, expected 0, 4 or 128", ratio, i));
    c.layers.push_back(static_cast<LayerKind>(ratio));
  }
  c.swiglu_limit.assign(c.n_layers, c.swiglu_limit[0]);
  return ok_status();
}

}  // namespace

std::span<const SynthDimension> synth_dimensions() { return kDimensions; }

Result<Config> synth_config(const SynthOptions& options) {
  NW_ASSIGN(Config c, shape_by_name(options.shape));
  for (const auto& [name, value] : options.dimensions) {
    const auto* d = std::find_if(std::begin(kDimensions), std::end(kDimensions),
                                 [&key = name](const SynthDimension& x) { return x.name == key; });
    if (d == std::end(kDimensions)) return usage(fmt::format("--{}: no such dimension", name));
    if (value < 0) return usage(fmt::format("--{} {}: expected 0 or more", name, value));
    c.*d->field = value;
  }
  if (c.n_layers > 1024)
    return usage(fmt::format("--layers {}: expected 1024 at most", c.n_layers));
  if (!options.dimensions.contains("hash-layers"))
    c.n_hash_layers = std::min(c.n_hash_layers, c.n_layers);
  NW_TRY(set_layers(options.ratios, c));
  c.name = fmt::format("synthetic deepseek4 {}x{} {}", c.n_layers, c.d_model, options.quant);
  if (const Status s = check_config(c); !s.ok()) return usage("synth: " + s.message());
  return c;
}

}  // namespace narwhal
