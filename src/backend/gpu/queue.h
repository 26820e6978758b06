// Queue: what a device has to offer so that the ops run on it, an ordered list of kernel launches.
// The argument of a kernel is its struct, byte for byte.
#pragma once

#include <cstdint>

#include "backend/gpu/kernel_id.h"

namespace narwhal::gpu {

class Queue {
 public:
  virtual ~Queue() = default;

  // Enqueues n_groups groups of n_threads threads. `kernel` is copied before the call returns.
  virtual void launch(KernelId id, const void* kernel, int64_t n_bytes, int64_t n_groups,
                      int n_threads) = 0;
  // Waits for everything enqueued.
  virtual void sync() = 0;

  template <class K>
  void run(const K& kernel, int64_t n_groups) {
    if (n_groups > 0) launch(kernels::IdOf<K>::value, &kernel, sizeof(K), n_groups, K::kThreads);
  }
};

}  // namespace narwhal::gpu
