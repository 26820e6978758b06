// Entry points of kernels/kernel_list.h, part "dot", for NVIDIA GPUs.
#include "backend/cuda/kernel_table.h"
#include "kernels/kernel_list.h"

namespace narwhal::kernels {

NW_KERNELS_DOT(K_ENTRY)

const KernelHandle dot_kernels[] = {NW_KERNELS_DOT(NW_HANDLE)};
const int n_dot_kernels = sizeof dot_kernels / sizeof(KernelHandle);

}  // namespace narwhal::kernels
