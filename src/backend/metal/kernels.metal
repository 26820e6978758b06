// Entry points of kernels/kernel_list.h for Apple GPUs, outside namespaces: a library names its
// functions as they are here.
#if __METAL_VERSION__ >= 320
#pragma METAL fp contract(off)
#endif
#include "kernels/kernel_list.h"

using namespace narwhal::kernels;

NW_KERNELS(K_ENTRY)
