// Every entry point: X(name, kernel). The list makes __global__ functions on CUDA and HIP, kernel
// functions on Metal, and the tables by which a launch names its kernel (backend/gpu/kernel_id.h).
#pragma once

#include "kernels/attention_inputs.h"
#include "kernels/attention_part.h"
#include "kernels/attention_tile.h"
#include "kernels/attention_wide.h"
#include "kernels/best_logits.h"
#include "kernels/dot_experts.h"
#include "kernels/expert_tiles.h"
#include "kernels/experts.h"
#include "kernels/hyper_connection.h"
#include "kernels/indexer.h"
#include "kernels/indexer_tile.h"
#include "kernels/kv_rows.h"
#include "kernels/matvec.h"
#include "kernels/repack.h"
#include "kernels/rope.h"
#include "kernels/route.h"
#include "kernels/side.h"
#include "kernels/tall.h"
#include "kernels/tile.h"
#include "kernels/vectors.h"

// clang-format off

// Weights of every stored type can be multiplied with few rows, looked up and added.
#define NW_MATRIX_KERNELS(X, suffix, Codec) \
  X(matvec1_##suffix, MatVec<Codec, 1>)     \
  X(matvec4_##suffix, MatVec<Codec, 4>)     \
  X(embed_##suffix, Embed<Codec>)           \
  X(add_ape_##suffix, AddApe<Codec>)        \
  X(hidden_##suffix, ExpertHidden<Codec>)   \
  X(down_##suffix, ExpertDown<Codec>)

// Integer products of few rows. The names: rows of inputs, simds that share a row.
#define NW_DOT_KERNELS(X, suffix, Codec)                         \
  X(dot1x2_##suffix, DotVec<Band<2>, Codec, 1>)                  \
  X(dot1x8_##suffix, DotVec<Band<8>, Codec, 1>)                  \
  X(dot4x2_##suffix, DotVec<Band<2>, Codec, 4>)                  \
  X(dot4x8_##suffix, DotVec<Band<8>, Codec, 4>)                  \
  X(dot_hidden_##suffix, DotHidden<Band<4>, Codec, NoCodec>)     \
  X(dot_down_##suffix, DotDown<Band<8>, Codec, NoCodec>)         \
  X(moe_hidden_##suffix, DotHidden<Band<4>, Codec, CodecQ8_0>)   \
  X(moe_down_##suffix, DotDown<Band<8>, Codec, CodecQ8_0>)

// The same of very many outputs.
#define NW_TALL_KERNELS(X, suffix, Codec) \
  X(tall1_##suffix, TallVec<Codec, 1>)    \
  X(tall4_##suffix, TallVec<Codec, 4>)

// Products of one row with weights of small integers, beside those with halves.
#define NW_SIDE_KERNELS(X)                                                 \
  X(dot1x2_f16, Side<DotVec<Band<2>, CodecQ8_0, 1>, MatVec<CodecF16, 1>>) \
  X(dot1x8_f16, Side<DotVec<Band<8>, CodecQ8_0, 1>, MatVec<CodecF16, 1>>)

// Matrix tiles, of many rows and of few, need rows of kTileWidth and take no f32, which stays exact.
#define NW_TILE_KERNELS(X, suffix, Codec)                              \
  X(tile_##suffix, MatTile<Codec, kTileTokens>)                        \
  X(hidden_tile_##suffix, ExpertHiddenTile<Codec, kTileTokens>)        \
  X(down_tile_##suffix, ExpertDownTile<Codec, kTileTokens>)            \
  X(few_tile_##suffix, MatTile<Codec, kFewTileTokens>)                 \
  X(few_hidden_tile_##suffix, ExpertHiddenTile<Codec, kFewTileTokens>) \
  X(few_down_tile_##suffix, ExpertDownTile<Codec, kFewTileTokens>)

// Four parts, so that they can be compiled side by side.
#define NW_KERNELS_MATRIX(X)                   \
  NW_MATRIX_KERNELS(X, f32, CodecF32)          \
  NW_MATRIX_KERNELS(X, f16, CodecF16)          \
  NW_MATRIX_KERNELS(X, bf16, CodecBF16)        \
  NW_MATRIX_KERNELS(X, f32_odd, CodecF32Odd)   \
  NW_MATRIX_KERNELS(X, f16_odd, CodecF16Odd)   \
  NW_MATRIX_KERNELS(X, bf16_odd, CodecBF16Odd) \
  NW_MATRIX_KERNELS(X, q8_0, CodecQ8_0)        \
  NW_MATRIX_KERNELS(X, q4_k, CodecQ4_K)        \
  NW_MATRIX_KERNELS(X, q2_k, CodecQ2_K)        \
  NW_MATRIX_KERNELS(X, iq2_xxs, CodecIQ2_XXS)  \
  NW_MATRIX_KERNELS(X, mxfp4, CodecMXFP4)

#define NW_KERNELS_DOT(X)                  \
  NW_DOT_KERNELS(X, q8_0, CodecQ8_0)       \
  NW_DOT_KERNELS(X, q4_k, CodecQ4_K)       \
  NW_DOT_KERNELS(X, q2_k, CodecQ2_K)       \
  NW_DOT_KERNELS(X, iq2_xxs, CodecIQ2_XXS) \
  NW_DOT_KERNELS(X, mxfp4, CodecMXFP4)     \
  NW_TALL_KERNELS(X, q2_k, CodecQ2_K)      \
  NW_TALL_KERNELS(X, iq2_xxs, CodecIQ2_XXS) \
  NW_SIDE_KERNELS(X)

#define NW_KERNELS_TILE(X)                  \
  NW_TILE_KERNELS(X, f16, CodecF16)         \
  NW_TILE_KERNELS(X, bf16, CodecBF16)       \
  NW_TILE_KERNELS(X, q8_0, CodecQ8_0)       \
  NW_TILE_KERNELS(X, q4_k, CodecQ4_K)       \
  NW_TILE_KERNELS(X, q2_k, CodecQ2_K)       \
  NW_TILE_KERNELS(X, iq2_xxs, CodecIQ2_XXS) \
  NW_TILE_KERNELS(X, mxfp4, CodecMXFP4)

// Kernels that need more shared memory than AMD's and Apple's GPUs have.
#if defined(__HIPCC__) || defined(__METAL_VERSION__)
#define NW_KERNELS_WIDE(X)
#else
#define NW_KERNELS_WIDE(X) X(attention_wide, AttentionWide)
#endif

#define NW_KERNELS_OTHER(X)                  \
  X(halves, Halves)                          \
  X(hc_mix1_f32, HcMix<CodecF32, 1>)         \
  X(hc_mix4_f32, HcMix<CodecF32, 4>)         \
  X(hc_mix1_f16, HcMix<CodecF16, 1>)         \
  X(hc_mix4_f16, HcMix<CodecF16, 4>)         \
  X(hc_mix1_bf16, HcMix<CodecBF16, 1>)       \
  X(hc_mix4_bf16, HcMix<CodecBF16, 4>)       \
  X(hc_finish, HcFinish)                     \
  X(hc_gates, HcGates)                       \
  X(hc_sum, HcSum)                           \
  X(hc_post, HcPost)                         \
  X(rms_norm, RmsNorm)                       \
  X(head_norm_rope, HeadNormRope)            \
  X(rope_tail, RopeTail)                     \
  X(rope_table, RopeTable)                   \
  X(add, Add)                                \
  X(swiglu, SwiGlu)                          \
  X(gather_rows, GatherRows)                 \
  X(ring_store, RingStore)                   \
  X(repack, Repack)                          \
  X(encode_rows, EncodeRows)                 \
  X(make_kv_rows, MakeKvRows)                \
  X(index_query, IndexQuery)                 \
  X(compress, Compress)                      \
  X(index_scores_32, IndexScores<32>)        \
  X(index_scores_64, IndexScores<64>)        \
  X(index_scores_128, IndexScores<128>)      \
  X(index_tile_16_1, IndexTile<1, 1>)        \
  X(index_tile_16_4, IndexTile<1, 4>)        \
  X(index_tile_64_1, IndexTile<4, 1>)        \
  X(index_tile_64_4, IndexTile<4, 4>)        \
  X(top_k, TopK)                             \
  X(attention_128, Attention<1, false>)      \
  X(attention_512, Attention<4, false>)      \
  X(attention_split_128, Attention<1, true>) \
  X(attention_split_512, Attention<4, true>) \
  X(attention_join, AttentionJoin)           \
  X(attention_inputs, AttentionInputs)       \
  X(attention_part_128, AttentionPart<1>)    \
  X(attention_part_512, AttentionPart<4>)    \
  X(attention_merge, AttentionMerge)         \
  X(attention_tile_128, AttentionTile<1>)    \
  X(attention_tile_512, AttentionTile<4>)    \
  X(route, Route)                            \
  X(best_of_slice, BestOfSlice)              \
  X(best_logits, BestLogits)                 \
  X(expert_sort, ExpertSort)                 \
  X(expert_sum, ExpertSum)                   \
  NW_KERNELS_WIDE(X)

#define NW_KERNELS(X) \
  NW_KERNELS_MATRIX(X) NW_KERNELS_DOT(X) NW_KERNELS_TILE(X) NW_KERNELS_OTHER(X)
// clang-format on
