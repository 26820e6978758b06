// Kernels by number and by name, from the one list (kernels/kernel_list.h).
#pragma once

#include "kernels/kernel_list.h"

namespace narwhal::gpu {

enum class KernelId : int {
#define NW_ID(name, ...) k_##name,
  NW_KERNELS(NW_ID)
#undef NW_ID
      kCount
};

inline constexpr const char* kKernelNames[] = {
#define NW_NAME(name, ...) #name,
    NW_KERNELS(NW_NAME)
#undef NW_NAME
};

}  // namespace narwhal::gpu

namespace narwhal::kernels {

template <class K>
struct IdOf;
#define NW_ID_OF(name, ...)                                         \
  template <>                                                       \
  struct IdOf<__VA_ARGS__> {                                        \
    static constexpr gpu::KernelId value = gpu::KernelId::k_##name; \
  };
NW_KERNELS(NW_ID_OF)
#undef NW_ID_OF

}  // namespace narwhal::kernels
