// Entry points of kernels/kernel_list.h, part "other", for NVIDIA GPUs.
#include "backend/cuda/kernel_table.h"
#include "kernels/kernel_list.h"

namespace narwhal::kernels {

NW_KERNELS_OTHER(K_ENTRY)

const KernelHandle other_kernels[] = {NW_KERNELS_OTHER(NW_HANDLE)};
const int n_other_kernels = sizeof other_kernels / sizeof(KernelHandle);

}  // namespace narwhal::kernels
