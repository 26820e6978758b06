#include "fake_gpu.h"

#include "lanes.h"

// Compiled with __METAL_VERSION__ and a <metal_stdlib> of ours.
#include "kernels/kernel_list.h"

namespace narwhal {
namespace kernels {

template <class K>
void body(const void* kernel, unsigned group, unsigned index, unsigned size, void* shared) {
  const Group g = {group, index, size, index % 32, index / 32};
  (*static_cast<const K*>(kernel))(g, static_cast<typename K::Shared*>(shared));
}

static constexpr LanesBody kBodies[] = {
#define NW_BODY(name, ...) &body<__VA_ARGS__>,
    NW_KERNELS(NW_BODY)
#undef NW_BODY
};

static constexpr FakeGpuKernel kKernels[] = {
#define NW_KERNEL(name, ...) \
  {"nw_" #name, sizeof(__VA_ARGS__), sizeof(typename __VA_ARGS__::Shared), __VA_ARGS__::kThreads},
    NW_KERNELS(NW_KERNEL)
#undef NW_KERNEL
};

}  // namespace kernels
}  // namespace narwhal

#define NW_VISIBLE __attribute__((visibility("default")))

extern "C" NW_VISIBLE const FakeGpuKernel* fake_gpu_kernels(int* n) {
  *n = static_cast<int>(sizeof narwhal::kernels::kKernels / sizeof(FakeGpuKernel));
  return narwhal::kernels::kKernels;
}

extern "C" NW_VISIBLE void fake_gpu_run(int kernel, const void* arguments, int64_t n_groups,
                                        int n_threads) {
  lanes_launch(narwhal::kernels::kBodies[kernel], arguments,
               narwhal::kernels::kKernels[kernel].shared_bytes, n_groups, n_threads);
}
