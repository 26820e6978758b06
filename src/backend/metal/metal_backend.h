// Apple GPUs (M1 and later, macOS 14 and later): the shared kernels as Metal text on one command
// queue, in memory that the GPU shares with this machine.
//
// Weights of plain values stay where the model file is mapped; quantised ones are packed once by
// the GPU, which reads them from the mapping (gpu/adopted.h).
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/gpu/adopted.h"
#include "backend/gpu/queue.h"

namespace narwhal {

// Whether a usable device is present.
bool metal_available();

// kFailed, saying what was found and what is expected, where no device can be used.
Result<std::unique_ptr<Backend>> make_metal_backend(const BackendOptions& options);

// What tests that hand memory of the host to ops need of a backend that make_metal_backend made.
struct MetalParts {
  gpu::Queue& queue;
  gpu::HostMemory& memory;
};
MetalParts metal_parts(Backend& backend);

}  // namespace narwhal
