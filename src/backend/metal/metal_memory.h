// The memory that kernels may touch: buffers of shared memory, and windows on memory of the host
// that the GPU reads where it lies.
//
// Kernels find memory by addresses in their arguments, of which Metal knows nothing: every buffer
// is named to every pass.
#pragma once

#import <Metal/Metal.h>

#include <map>
#include <vector>

#include "backend/gpu/adopted.h"
#include "backend/metal/pool.h"
#include "backend/metal/ref.h"

namespace narwhal::metal {

class Memory : public gpu::HostMemory, private Buffers {
 public:
  explicit Memory(id<MTLDevice> device) : device_(device), pool_(*this) {}

  // Zeros at a device address. kNoMemory with what is missing.
  Result<std::byte*> allocate(int64_t n_bytes);
  // The GPU must be done with it.
  void release(std::byte* device);
  std::byte* host_of(const void* device, int64_t n_bytes) const {
    return pool_.host_of(device, n_bytes);
  }

  // Host memory at a device address, without a copy; null where Metal does not take it (memory
  // that is not of one mapping, or larger than a buffer may be), and for what is small.
  const std::byte* map(const std::byte* host, int64_t n_bytes) override;
  void unmap(const std::byte* device) override;
  // All memory is the GPU's: nothing is gained by a second kind.
  Result<std::byte*> allocate_host(int64_t n_bytes) override { return allocate(n_bytes); }
  void release_host(std::byte* memory, int64_t) override { release(memory); }

  const std::vector<id<MTLResource>>& buffers() const { return lists_[0]; }
  const std::vector<id<MTLResource>>& windows() const { return lists_[1]; }  // only read
  // Another number after every change of the two.
  uint64_t version() const { return version_; }

 private:
  // Metal takes memory that is one mapping of its own. Weights of this size are of a model file;
  // those of the model inside the program, and the heap's of tests, are smaller.
  static constexpr int64_t kSmallestMapped = int64_t{16} << 20;

  Region make(int64_t n_bytes) override;
  void drop(const Region& region) override;
  std::byte* keep(Ref<id<MTLBuffer>> buffer, bool window);
  void forget(const std::byte* device, bool window);

  id<MTLDevice> device_;  // the backend's
  std::map<const std::byte*, Ref<id<MTLBuffer>>> owned_;
  std::map<const std::byte*, std::byte*> mapped_;  // what map() gave -> the buffer's address
  std::vector<id<MTLResource>> lists_[2];          // what is in owned_: buffers, windows
  uint64_t version_ = 0;
  Pool pool_;  // last: it drops its buffers when it goes
};

}  // namespace narwhal::metal
