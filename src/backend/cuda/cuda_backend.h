// NVIDIA GPUs of compute capability 8.0 and later, and with NARWHAL_HIP AMD GPUs of 32 lanes: the
// shared kernels on one stream, weights and KV memory on the card, small steps replayed as graphs.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace narwhal {

#if defined(NARWHAL_HIP)
inline constexpr const char* kCudaName = "hip";
#else
inline constexpr const char* kCudaName = "cuda";
#endif

// Whether a usable device is present.
bool cuda_available();

// kFailed, saying what is missing, where no device can be used.
Result<std::unique_ptr<Backend>> make_cuda_backend(const BackendOptions& options);

}  // namespace narwhal
