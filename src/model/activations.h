// Activations: every buffer of the wave that runs through the layers, sized once for the largest
// step.
//
// Row r of a buffer belongs to row r of the step. D = d_model, H = n_hc, q heads x head_dim = Q.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"
#include "model/kv_layout.h"
#include "narwhal/candidates.h"
#include "ops/types.h"

namespace narwhal {

// Index scores held at once, so that a prompt's step is one launch at common lengths (2,048 queries
// at 32k tokens); at a million tokens a query takes a megabyte.
inline constexpr int64_t kScoreBytes = int64_t{64} << 20;
inline constexpr int kFewestScoreRows = 16;

struct Activations {
  // The step itself, one block of device memory, so that it comes in one transfer
  // (place_inputs()).
  int32_t *token = nullptr, *position = nullptr, *slot = nullptr, *first_row = nullptr;  // [n]
  int32_t* logits_rows = nullptr;                                                        // [n]

  float *rope_sliding = nullptr, *rope_compressed = nullptr;  // [n][rope / 2][2]
  float* X = nullptr;                                         // [n][H][D] residual streams
  float* gates = nullptr;                                     // [n][H * (2 + H)]
  float* x = nullptr;                                         // [n][D] normed sublayer input
  float* out = nullptr;                                       // [n][D] sublayer output

  float* qr = nullptr;                                 // [n][q_lora]
  float* q = nullptr;                                  // [n][Q]
  float* kv = nullptr;                                 // [n][head_dim]
  std::byte* kv_rows = nullptr;                        // [n][row bytes] this step's window rows
  float *k = nullptr, *s = nullptr;                    // [n][2 head_dim] compressor inputs
  float *index_k = nullptr, *index_s = nullptr;        // [n][2 index_dim]
  float* index_q = nullptr;                            // [n][n_index_heads][index_dim]
  float* index_w = nullptr;                            // [n][n_index_heads]
  float* scores = nullptr;                             // [score_rows][max_index_rows]
  int32_t *selected = nullptr, *n_selected = nullptr;  // [n][top_k], [n]
  float* o = nullptr;                                  // [n][Q] attention output
  float* o_low = nullptr;                              // [n][o_groups * o_lora]

  float* router = nullptr;                             // [n][n_experts]
  int32_t* expert_ids = nullptr;                       // [n][n_experts_used]
  float* expert_weights = nullptr;                     // [n][n_experts_used]
  float* expert_hidden = nullptr;                      // [n][n_experts_used][d_expert]
  float *shared_gate = nullptr, *shared_up = nullptr;  // [n][d_expert]
  float* shared_out = nullptr;                         // [n][D]

  float* head_X = nullptr;     // [n logits][H][D]
  float* head_x = nullptr;     // [n logits][D]
  float* logits = nullptr;     // [n logits][n_vocab]
  Candidates* best = nullptr;  // [n logits]

  int max_rows = 0;    // rows of a step
  int max_logits = 0;  // rows of a step that may ask for logits
  int64_t max_index_rows = 0;
  int score_rows = 0;  // queries whose index scores are held at once
};

// Sizes of a step: rows, rows with logits, and the context its sequences may reach.
struct StepShape {
  int n_rows = 0;
  int n_logits = 0;
  int64_t n_ctx = 0;
};

// Bytes of all buffers, and their places from `base` (which may be null to measure only).
int64_t place_activations(const Config& config, const KvLayout& layout, const StepShape& shape,
                          std::byte* base, Activations& a);

// Moves the five inputs together, as a step of n_rows has them: token is the first of [5][n_rows].
void place_inputs(int n_rows, Activations& a);

StepLimits step_limits(const Config& config, const StepShape& shape);

}  // namespace narwhal
