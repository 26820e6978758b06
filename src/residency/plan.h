// The memory plan: what a model needs on this machine, from its header alone, before anything is
// allocated. Numbers are what will really be reserved, not estimates.
#pragma once

#include <cstdint>

#include "model/activations.h"
#include "model/config.h"
#include "model/kv_layout.h"
#include "narwhal/engine.h"
#include "narwhal/status.h"

namespace narwhal {

// Bytes that this process could use now without swapping: free memory and droppable caches, held to
// the limit of the control group. 0 when the system does not tell.
uint64_t available_memory();

// Bytes of kept frontiers that a session may hold besides its live one: a dozen in the worst place,
// forty at multiples of 128.
inline int64_t frontier_budget(const KvLayout& layout) { return 12 * layout.frontier_bytes; }

struct PlanRequest {
  uint64_t weights_bytes = 0;
  uint64_t host_weights_bytes = 0;  // of them, not on the device
  int64_t n_ctx = 0;                // 0 = as much as fits, at most the model's own
  int n_sessions = 1;
  int chunk = 0;               // rows of a step
  int n_logits = 0;            // rows of a step with logits; more than n_sessions are for scoring
  uint64_t backend_bytes = 0;  // the backend's own scratch
};

// Bytes of a step's buffers.
uint64_t workspace_bytes(const Config& config, const KvLayout& layout, const StepShape& shape);

// The request with as many of `expert_bytes` moved to host memory as the device is too small by;
// unchanged where it fits, or would not even so. Where no context is given and weights must move,
// the context becomes 32,768.
PlanRequest move_experts_to_host(const Config& config, const KvLayout& layout,
                                 const PlanRequest& request, uint64_t available,
                                 uint64_t expert_bytes);

MemoryPlan make_plan(const Config& config, const KvLayout& layout, const PlanRequest& request,
                     uint64_t available);

// kNoMemory with what would fit.
Status check_plan(const Config& config, const KvLayout& layout, const PlanRequest& request,
                  const MemoryPlan& plan);

}  // namespace narwhal
