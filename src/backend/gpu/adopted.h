// AdoptedWeights: a model's weights as the kernels read them, packed, on the device or in host
// memory that it reads. Weights that share bytes in the file share them here. Where the device
// reads host memory in place (HostMemory::map), plain values stay there and the others are packed
// from it.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>

#include "backend/backend.h"
#include "backend/gpu/queue.h"
#include "tensor/weight.h"

namespace narwhal::gpu {

// Host memory that the device reads.
class HostMemory {
 public:
  virtual ~HostMemory() = default;
  // Of its own, read over the bus.
  virtual Result<std::byte*> allocate_host(int64_t n_bytes) = 0;
  virtual void release_host(std::byte* memory, int64_t n_bytes) = 0;
  // [host, host + n_bytes), read-only, at an address of the device; null where it has to be copied.
  virtual const std::byte* map(const std::byte* host, int64_t n_bytes) {
    (void)host, (void)n_bytes;
    return nullptr;
  }
  // What map() gave. The device must be done with it.
  virtual void unmap(const std::byte* device) { (void)device; }
};

class AdoptedWeights {
 public:
  AdoptedWeights(Backend& backend, HostMemory& host, Queue& queue)
      : backend_(backend), host_(host), queue_(queue) {}
  ~AdoptedWeights();
  AdoptedWeights(const AdoptedWeights&) = delete;
  AdoptedWeights& operator=(const AdoptedWeights&) = delete;

  // The same weight for the kernels; w.data is host memory. Lives as long as this object.
  Result<Weight> adopt(const Weight& w, Placement where);

 private:
  struct Copy {
    std::byte* memory;
    int64_t n_bytes;
    Placement where;
    const std::byte* mapped = nullptr;  // instead of memory
  };
  using Key = std::tuple<const std::byte*, DType, int64_t, int64_t, int64_t>;
  Status fill(const Weight& w, std::byte* device);
  void pack(const Weight& w, const std::byte* mapped, std::byte* device);
  // One matrix in pieces through the staging area.
  void fill_matrix(const Weight& w, const std::byte* host, std::byte* device);

  Backend& backend_;
  HostMemory& host_;
  Queue& queue_;
  std::map<Key, Copy> copies_;
  std::byte* staging_ = nullptr;  // device memory of raw blocks
  int64_t staging_bytes_ = 0;
};

}  // namespace narwhal::gpu
