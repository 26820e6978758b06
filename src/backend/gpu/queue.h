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
  // As many groups at least keep the device busy. A kernel with a choice of sizes takes one that
  // gives more; one that prepares something per group makes not many more than two each.
  virtual int n_multiprocessors() const = 0;
  // Waits for everything enqueued.
  virtual void sync() = 0;
  // The most shared memory that a group can have; 32 KiB are there on every device.
  virtual int64_t shared_bytes() const { return 32 << 10; }
  // Rows of the device's matrix tiles (kernels/tile.h), where there are many and where few.
  virtual int tile_tokens(bool few) const {
    return few ? kernels::kFewTileTokens : kernels::kTileTokens;
  }

  template <class K>
  void run(const K& kernel, int64_t n_groups) {
    if (n_groups > 0) launch(kernels::IdOf<K>::value, &kernel, sizeof(K), n_groups, K::kThreads);
  }
};

}  // namespace narwhal::gpu
