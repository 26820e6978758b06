// Entry points of kernels/kernel_list.h, part "tile", for NVIDIA GPUs.
#include "backend/cuda/kernel_table.h"
#include "kernels/kernel_list.h"

namespace narwhal::kernels {

NW_KERNELS_TILE(K_ENTRY)

const KernelHandle tile_kernels[] = {NW_KERNELS_TILE(NW_HANDLE)};
const int n_tile_kernels = sizeof tile_kernels / sizeof(KernelHandle);

}  // namespace narwhal::kernels
