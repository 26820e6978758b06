// Config: the shape and the constants of one model, as its GGUF states them (spec: model section 1,
// GGUF section 4). Any consistent shape is accepted; kFlash* constants are only what the large
// model happens to have. Names follow the paper and the reference code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gguf/reader.h"
#include "gguf/writer.h"
#include "narwhal/status.h"

namespace narwhal {

// What a layer attends to besides its sliding window; the value is the compression ratio.
enum class LayerKind : int {
  kSliding = 0,
  kCsa = 4,    // compressed sparse attention: overlapping windows of 4, chosen by the indexer
  kHca = 128,  // heavily compressed attention: windows of 128, all visible rows
};

struct Config {
  std::string name;
  int n_layers = 0;
  int n_vocab = 0;
  int64_t max_ctx = 0;

  int d_model = 0;
  int n_hc = 4;  // residual streams
  int sinkhorn_iterations = 20;
  float hc_eps = 1e-6f;
  float rms_eps = 1e-6f;

  int n_heads = 0;
  int head_dim = 0;  // = nope_dim() + rope_dim; the rope part is the tail
  int rope_dim = 64;
  int q_lora = 0;
  int o_groups = 1;
  int o_lora = 0;    // per group
  int window = 128;  // tokens a query sees in its own layer, itself included
  std::vector<LayerKind> layers;

  int n_index_heads = 0;
  int index_dim = 128;
  int index_top_k = 0;

  int n_experts = 0;
  int n_experts_used = 0;
  int n_experts_shared = 1;
  int d_expert = 0;
  int n_hash_layers = 0;  // layers [0, n_hash_layers) route by token id
  float expert_scale = 1.5f;
  std::vector<float> swiglu_limit;  // one per layer

  float rope_base = 10000;
  float compress_rope_base = 160000;
  float yarn_factor = 16;
  int64_t yarn_original_ctx = 65536;
  float yarn_beta_fast = 32;
  float yarn_beta_slow = 1;

  std::string prompt_profile;  // "preview", "0731" or empty when the file does not say

  int nope_dim() const { return head_dim - rope_dim; }
  int heads_per_group() const { return n_heads / o_groups; }
  int hc_mixes() const { return n_hc * (2 + n_hc); }
  bool is_hash_layer(int layer) const { return layer < n_hash_layers; }
  int n_layers_of(LayerKind kind) const;
};

// Whether the numbers fit together (positive, divisible, supported ratios). kBadInput with the
// remedy.
Status check_config(const Config& config);

// Reads and checks. Missing or mistyped keys are named.
Result<Config> read_config(const gguf::File& file);

// Writes every key of GGUF section 4 that read_config reads; read_config gives the same Config
// back.
void write_config(const Config& config, gguf::Writer& writer);

// The shape of the large model.
Config flash_config();

}  // namespace narwhal
