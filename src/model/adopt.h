// The model's weights as a backend computes with them.
#pragma once

#include <functional>

#include "backend/backend.h"
#include "model/weights.h"

namespace narwhal {

// Every weight through Backend::adopt, in layer order; `done` hears of the bytes so far. On host
// backends the result equals `weights`.
Result<Weights> adopt_weights(const Config& config, const Weights& weights, Backend& backend,
                              const std::function<void(int64_t n_bytes)>& done = {});

}  // namespace narwhal
