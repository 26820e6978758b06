// NVIDIA GPUs of compute capability 8.0 and later: the shared kernels on one CUDA stream, weights
// and KV memory on the card, small steps replayed as CUDA graphs.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace narwhal {

// Whether a usable device is present.
bool cuda_available();

// kFailed, saying what is missing, where no device can be used.
Result<std::unique_ptr<Backend>> make_cuda_backend(const BackendOptions& options);

}  // namespace narwhal
