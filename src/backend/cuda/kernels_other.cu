// Entry points of kernels/kernel_list.h, part "other", for NVIDIA GPUs.
#include "backend/cuda/kernel_table.h"
#include "kernels/kernel_list.h"

namespace narwhal::kernels {
NW_KERNELS_OTHER(K_ENTRY)
}  // namespace narwhal::kernels

const void* const nw_cuda_other_kernels[] = {
#define NW_POINTER(name, ...) reinterpret_cast<const void*>(&narwhal::kernels::nw_##name),
    NW_KERNELS_OTHER(NW_POINTER)
#undef NW_POINTER
};
const int nw_cuda_n_other_kernels = sizeof nw_cuda_other_kernels / sizeof(const void*);
