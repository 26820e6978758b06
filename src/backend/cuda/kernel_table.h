// Host handles of the entry points, in the order of kernels/kernel_list.h.
#pragma once

extern const void* const nw_cuda_matrix_kernels[];
extern const void* const nw_cuda_tile_kernels[];
extern const void* const nw_cuda_other_kernels[];
extern const int nw_cuda_n_matrix_kernels, nw_cuda_n_tile_kernels, nw_cuda_n_other_kernels;
