#include "backend/metal/metal_library.h"

#include <fmt/format.h>

#include "base/threads.h"

extern "C" const char narwhal_metal_text_begin[];
extern "C" const char narwhal_metal_text_end[];

namespace narwhal {

namespace kernels {

constexpr size_t kMostArgumentBytes = 4096;  // of setBytes

constexpr int kThreadsOf[] = {
#define NW_THREADS(name, ...) __VA_ARGS__::kThreads,
    NW_KERNELS(NW_THREADS)
#undef NW_THREADS
};
#define NW_FITS(name, ...) static_assert(sizeof(__VA_ARGS__) <= kMostArgumentBytes, #name);
NW_KERNELS(NW_FITS)
#undef NW_FITS

}  // namespace kernels

namespace metal {
namespace {

// The last of the list need more threadgroup memory than there is (Queue::shared_bytes).
#define NW_ONE(...) +1
constexpr size_t kKernels =
    static_cast<size_t>(gpu::KernelId::kCount) - (0 NW_KERNELS_WIDE(NW_ONE));
#undef NW_ONE

}  // namespace

std::string_view kernel_text() {
  return {narwhal_metal_text_begin,
          static_cast<size_t>(narwhal_metal_text_end - narwhal_metal_text_begin)};
}

Status Library::build(id<MTLDevice> device, id<MTLLibrary> library, size_t i) {
  const char* const name = gpu::kKernelNames[i];
  const Ref<id<MTLFunction>> function(
      [library newFunctionWithName:to_ns(fmt::format("nw_{}", name)).get()]);
  if (!function) return failed(fmt::format("the GPU library lacks the kernel {}", name));
  // Told the size of groups, the compiler takes no more registers than so many threads can have.
  const auto n_threads = static_cast<NSUInteger>(kernels::kThreadsOf[i]);
  const Ref<MTLComputePipelineDescriptor*> descriptor([MTLComputePipelineDescriptor new]);
  [descriptor.get() setComputeFunction:function.get()];
  [descriptor.get() setMaxTotalThreadsPerThreadgroup:n_threads];
  [descriptor.get() setThreadGroupSizeIsMultipleOfThreadExecutionWidth:YES];
  NSError* error = nil;
  Ref<id<MTLComputePipelineState>> pipeline([device
      newComputePipelineStateWithDescriptor:descriptor.get()
                                    options:MTLPipelineOptionNone
                                 reflection:nullptr
                                      error:&error]);
  if (!pipeline)
    return failed(fmt::format("kernel {} cannot be made for this GPU: {}", name, text_of(error)));
  if ([pipeline.get() threadExecutionWidth] != 32)
    return failed(fmt::format("kernel {} runs {} lanes wide, expected 32; use --backend cpu", name,
                              [pipeline.get() threadExecutionWidth]));
  if ([pipeline.get() maxTotalThreadsPerThreadgroup] < n_threads)
    return failed(fmt::format("kernel {} needs {} threads a group, this GPU runs {}; use "
                              "--backend cpu",
                              name, n_threads, [pipeline.get() maxTotalThreadsPerThreadgroup]));
  pipelines_[i] = std::move(pipeline);
  return ok_status();
}

Status Library::open(id<MTLDevice> device, std::string_view text) {
  const Ref<MTLCompileOptions*> options([MTLCompileOptions new]);
#pragma clang diagnostic push  // macOS 15 calls it mathMode
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
  [options.get() setFastMathEnabled:NO];
#pragma clang diagnostic pop
  NSError* error = nil;
  const Ref<id<MTLLibrary>> library([device newLibraryWithSource:to_ns(text).get()
                                                         options:options.get()
                                                           error:&error]);
  if (!library)
    return failed(
        fmt::format("the GPU kernels do not compile, use --backend cpu: {}", text_of(error)));
  pipelines_.resize(kKernels);
  std::vector<Status> made(kKernels);
  ThreadPool pool(default_thread_count());
  pool.run(kKernels, 1, [&](int64_t begin, int64_t end, int) {
    @autoreleasepool {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); i++)
        made[i] = build(device, library.get(), i);
    }
  });
  for (Status& status : made) NW_TRY(std::move(status));
  return ok_status();
}

}  // namespace metal
}  // namespace narwhal
