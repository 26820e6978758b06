// The tensors of the model: one table from GGUF name to field, shape and role, used by the loader,
// the converter, `synth` and `inspect` (spec: GGUF section 3).
//
//   for (const TensorSpec& t : tensor_table(config)) ...          // 1328 entries at the Flash
//   shape NW_ASSIGN(Weights w, bind_weights(config, file));              // views into the mapped
//   file
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "gguf/reader.h"
#include "model/config.h"
#include "tensor/weight.h"

namespace narwhal {

// Parameters of one hyper-connection site (model section 3).
struct HcWeights {
  Weight fn;     // [n_hc * d_model -> hc_mixes]
  Weight base;   // [hc_mixes] f32
  Weight scale;  // [3] f32: pre, post, comb
};

// One compressor (model section 7): `coff` = 2 for ratio 4, 1 for ratio 128.
struct CompressorWeights {
  Weight wkv, wgate;  // [d_model -> coff * d]
  Weight ape;         // [ratio rows of coff * d]
  Weight norm;        // [d]
};

struct LayerWeights {
  HcWeights hc_attn, hc_ffn;
  Weight attn_norm, ffn_norm;  // [d_model]

  Weight wq_a, q_norm, wq_b;  // [d_model -> q_lora], [q_lora], [q_lora -> n_heads * head_dim]
  Weight wkv, kv_norm;        // [d_model -> head_dim], [head_dim]
  Weight sinks;               // [n_heads]
  Weight wo_a;                // [heads_per_group * head_dim -> o_groups * o_lora], grouped by rows
  Weight wo_b;                // [o_groups * o_lora -> d_model]

  CompressorWeights compressor;  // CSA and HCA layers
  Weight index_wq_b;             // CSA: [q_lora -> n_index_heads * index_dim]
  Weight index_proj;             // CSA: [d_model -> n_index_heads]
  CompressorWeights index_compressor;

  Weight router;                         // [d_model -> n_experts]
  Weight router_bias;                    // [n_experts], learned routing only
  Weight tid2eid;                        // [n_vocab rows of n_experts_used] i32, hash routing only
  Weight gate_exps, up_exps, down_exps;  // w1, w3, w2 of every routed expert
  Weight gate_shexp, up_shexp, down_shexp;  // shared expert
};

struct Weights {
  Weight token_embd;  // [n_vocab rows of d_model]
  Weight output;      // [d_model -> n_vocab]
  Weight output_norm;
  HcWeights hc_head;  // fn [n_hc * d_model -> n_hc], base [n_hc], scale [1]
  std::vector<LayerWeights> layers;
};

// What a tensor is for; decides which types a file may store it in and what presets choose.
enum class TensorRole {
  kEmbedding,
  kOutput,
  kVector,  // norms, hc base and scale, sinks, router bias: F32 in every published file
  kHcFn,
  kRouter,
  kHashTable,   // I32
  kAttention,   // wq_a, wq_b, wkv, wo_a, wo_b
  kCompressor,  // wkv, wgate and ape of attention compressors
  kIndexer,     // index_wq_b, index_proj and the index compressor's wkv, wgate, ape
  kExpertGate,
  kExpertUp,
  kExpertDown,
  kShared,
};

struct TensorSpec {
  std::string name;  // GGUF name
  int layer;         // -1 outside the layers
  TensorRole role;
  std::vector<int64_t> dims;  // GGUF order: dims[0] = n_in, fastest
};

// Every tensor a file of this shape must hold, in layer order.
std::vector<TensorSpec> tensor_table(const Config& config);

// The multi-token-prediction block (model section 12), names "mtp.0.*": a sliding layer with
// learned routing, its own stream head and norm, and two projections that join the embedding with
// the streams. A file may hold it beside the model or alone; bind_weights leaves it alone.
std::vector<TensorSpec> mtp_table(const Config& config);

// Calls f(spec, field) for each of them with the field of `weights` it belongs to; weights.layers
// must already have its size.
void each_tensor(const Config& config, Weights& weights,
                 const std::function<void(const TensorSpec& spec, Weight& field)>& f);

// Whether a file may store this role in that type.
bool type_allowed(TensorRole role, DType type);

// Finds, checks (shape, type, gate and up of one type, tid2eid in range) and binds every tensor.
// The views point into `file`, which must outlive them. Extra tensors are ignored.
Result<Weights> bind_weights(const Config& config, const gguf::File& file);

}  // namespace narwhal
