// The kernels as Metal runs them: the text inside this program, compiled when the backend opens.
#pragma once

#import <Metal/Metal.h>

#include <string_view>
#include <vector>

#include "backend/gpu/kernel_id.h"
#include "backend/metal/ref.h"
#include "narwhal/status.h"

namespace narwhal::metal {

// kernels.metal with all it includes, from the build (cmake/metal.cmake).
std::string_view kernel_text();

class Library {
 public:
  // kFailed with the compiler's words, or with what a kernel needs and the device lacks.
  Status open(id<MTLDevice> device, std::string_view text);

  id<MTLComputePipelineState> pipeline(gpu::KernelId id) const {
    return pipelines_[static_cast<size_t>(id)].get();
  }

 private:
  Status build(id<MTLDevice> device, id<MTLLibrary> library, size_t i);

  std::vector<Ref<id<MTLComputePipelineState>>> pipelines_;  // by KernelId
};

}  // namespace narwhal::metal
