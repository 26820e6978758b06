// Entry points of kernels/kernel_list.h, part "matrix", for NVIDIA GPUs.
#include "backend/cuda/kernel_table.h"
#include "kernels/kernel_list.h"

namespace narwhal::kernels {

NW_KERNELS_MATRIX(K_ENTRY)

const KernelHandle matrix_kernels[] = {NW_KERNELS_MATRIX(NW_HANDLE)};
const int n_matrix_kernels = sizeof matrix_kernels / sizeof(KernelHandle);

}  // namespace narwhal::kernels
