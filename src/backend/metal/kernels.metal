// Entry points of kernels/kernel_list.h for Apple GPUs.
#include "kernels/kernel_list.h"

namespace narwhal {
namespace kernels {
NW_KERNELS(K_ENTRY)
}  // namespace kernels
}  // namespace narwhal
