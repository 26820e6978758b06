// Entry points of kernels/kernel_list.h, part "matrix", for NVIDIA GPUs.
#include "backend/cuda/kernel_table.h"
#include "kernels/kernel_list.h"

namespace narwhal::kernels {
NW_KERNELS_MATRIX(K_ENTRY)
}  // namespace narwhal::kernels

const void* const nw_cuda_matrix_kernels[] = {
#define NW_POINTER(name, ...) reinterpret_cast<const void*>(&narwhal::kernels::nw_##name),
    NW_KERNELS_MATRIX(NW_POINTER)
#undef NW_POINTER
};
const int nw_cuda_n_matrix_kernels = sizeof nw_cuda_matrix_kernels / sizeof(const void*);
