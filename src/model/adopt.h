// The model's weights as a backend computes with them.
#pragma once

#include <functional>

#include "backend/backend.h"
#include "model/weights.h"

namespace narwhal {

// Every weight through Backend::adopt, in layer order, and waits for the last; `done` hears of the
// bytes so far, each counted once where weights share them. Expert stacks of the last layers stay
// in host memory until they make up `host_bytes`: of all weights they are read least, a few of many
// experts a token. On host backends the result equals `weights`.
Result<Weights> adopt_weights(const Config& config, const Weights& weights, Backend& backend,
                              int64_t host_bytes = 0,
                              const std::function<void(int64_t n_bytes)>& done = {});

// What `done` hears of in the end.
int64_t adopted_bytes(const Config& config, const Weights& weights);

}  // namespace narwhal
