// Host handles of the entry points, in the order of kernels/kernel_list.h.
#pragma once

namespace narwhal::kernels {

struct KernelHandle {
  const void* function;
  int shared_bytes;  // of a group, given at the launch
};

extern const KernelHandle matrix_kernels[], dot_kernels[], tile_kernels[], other_kernels[];
extern const int n_matrix_kernels, n_dot_kernels, n_tile_kernels, n_other_kernels;

}  // namespace narwhal::kernels

// Stands in narwhal::kernels after the entry points.
#define NW_HANDLE(name, ...) \
  {reinterpret_cast<const void*>(&nw_##name), static_cast<int>(sizeof(__VA_ARGS__::Shared))},
