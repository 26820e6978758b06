// Every GGUF metadata key of the `deepseek4` architecture, spelled once (spec: GGUF section 4).
// Tensor names stand in one table too: model/weights.h.
#pragma once

namespace narwhal::gguf::names {

inline constexpr char kArchitecture[] = "deepseek4";

inline constexpr char kGeneralArchitecture[] = "general.architecture";
inline constexpr char kGeneralName[] = "general.name";
inline constexpr char kGeneralLicense[] = "general.license";
inline constexpr char kGeneralFileType[] = "general.file_type";
inline constexpr char kGeneralQuantVersion[] = "general.quantization_version";
inline constexpr char kPromptProfile[] = "narwhal.prompt_profile";  // "preview" or "0731"

inline constexpr char kBlockCount[] = "deepseek4.block_count";
inline constexpr char kContextLength[] = "deepseek4.context_length";
inline constexpr char kEmbeddingLength[] = "deepseek4.embedding_length";
inline constexpr char kVocabSize[] = "deepseek4.vocab_size";
inline constexpr char kHeadCount[] = "deepseek4.attention.head_count";
inline constexpr char kHeadCountKv[] = "deepseek4.attention.head_count_kv";
inline constexpr char kKeyLength[] = "deepseek4.attention.key_length";
inline constexpr char kValueLength[] = "deepseek4.attention.value_length";
inline constexpr char kRopeDim[] = "deepseek4.rope.dimension_count";
inline constexpr char kQLora[] = "deepseek4.attention.q_lora_rank";
inline constexpr char kOLora[] = "deepseek4.attention.output_lora_rank";
inline constexpr char kOGroups[] = "deepseek4.attention.output_group_count";
inline constexpr char kExpertCount[] = "deepseek4.expert_count";
inline constexpr char kExpertUsed[] = "deepseek4.expert_used_count";
inline constexpr char kExpertShared[] = "deepseek4.expert_shared_count";
inline constexpr char kExpertLength[] = "deepseek4.expert_feed_forward_length";
inline constexpr char kExpertScale[] = "deepseek4.expert_weights_scale";
inline constexpr char kExpertNorm[] = "deepseek4.expert_weights_norm";
inline constexpr char kExpertGating[] = "deepseek4.expert_gating_func";
inline constexpr char kHashLayers[] = "deepseek4.hash_layer_count";
inline constexpr char kSlidingWindow[] = "deepseek4.attention.sliding_window";
inline constexpr char kIndexHeads[] = "deepseek4.attention.indexer.head_count";
inline constexpr char kIndexDim[] = "deepseek4.attention.indexer.key_length";
inline constexpr char kIndexTopK[] = "deepseek4.attention.indexer.top_k";
inline constexpr char kHcCount[] = "deepseek4.hyper_connection.count";
inline constexpr char kHcSinkhorn[] = "deepseek4.hyper_connection.sinkhorn_iterations";
inline constexpr char kHcEps[] = "deepseek4.hyper_connection.epsilon";
inline constexpr char kCompressRatios[] = "deepseek4.attention.compress_ratios";
inline constexpr char kSwigluClamp[] = "deepseek4.swiglu_clamp_exp";
inline constexpr char kRopeBase[] = "deepseek4.rope.freq_base";
inline constexpr char kCompressRopeBase[] = "deepseek4.attention.compress_rope_freq_base";
inline constexpr char kYarnType[] = "deepseek4.rope.scaling.type";
inline constexpr char kYarnFactor[] = "deepseek4.rope.scaling.factor";
inline constexpr char kYarnOriginalContext[] = "deepseek4.rope.scaling.original_context_length";
inline constexpr char kYarnBetaFast[] = "deepseek4.rope.scaling.yarn_beta_fast";
inline constexpr char kYarnBetaSlow[] = "deepseek4.rope.scaling.yarn_beta_slow";
inline constexpr char kRmsEps[] = "deepseek4.attention.layer_norm_rms_epsilon";
inline constexpr char kMtpLayerCount[] = "deepseek4.mtp_layer_count";
inline constexpr char kNextnLayers[] = "deepseek4.nextn_predict_layers";

inline constexpr char kTokenizerModel[] = "tokenizer.ggml.model";
inline constexpr char kTokenizerPre[] = "tokenizer.ggml.pre";
inline constexpr char kTokens[] = "tokenizer.ggml.tokens";
inline constexpr char kTokenTypes[] = "tokenizer.ggml.token_type";
inline constexpr char kMerges[] = "tokenizer.ggml.merges";
inline constexpr char kBosId[] = "tokenizer.ggml.bos_token_id";
inline constexpr char kEosId[] = "tokenizer.ggml.eos_token_id";
inline constexpr char kPadId[] = "tokenizer.ggml.padding_token_id";
inline constexpr char kAddBos[] = "tokenizer.ggml.add_bos_token";

}  // namespace narwhal::gguf::names
