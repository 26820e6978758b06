// AdoptedWeights: a model's weights as the kernels read them, packed, on the device or in host
// memory that it reads. Weights that share bytes in the file share them here. Where the device
// reads host memory in place (HostMemory::map), plain values stay there and the others are packed
// from it.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "backend/backend.h"
#include "backend/gpu/queue.h"
#include "backend/gpu/staging.h"
#include "tensor/weight.h"

namespace narwhal::gpu {

// Host memory, and the ways from there to the device.
class HostMemory {
 public:
  virtual ~HostMemory() = default;
  // Of its own, read over the bus; with any content.
  virtual Result<std::byte*> allocate_host(int64_t n_bytes) = 0;
  virtual void release_host(std::byte* memory, int64_t n_bytes) = 0;
  // [host, host + n_bytes), read-only, at an address of the device; null where it has to be copied.
  virtual const std::byte* map(const std::byte* host, int64_t n_bytes) {
    (void)host, (void)n_bytes;
    return nullptr;
  }
  // What map() gave. The device must be done with it.
  virtual void unmap(const std::byte* device) { (void)device; }
  // By a faster way than Backend::copy_in, in order; false where there is none. The last of it may
  // be sent only by the next upload or finish_uploads(); its host memory and what its functions use
  // must stay until then.
  virtual bool upload(const Upload& upload) {
    (void)upload;
    return false;
  }
  // All of every upload is enqueued.
  virtual void finish_uploads() {}
  // Memory that weights of up to half the size share, where the device gives memory in large
  // steps; 0 where it does not.
  virtual int64_t slab_bytes() const { return 0; }
  // The most device memory for blocks that wait to be packed.
  virtual int64_t most_staging() const { return int64_t{64} << 20; }
};

class AdoptedWeights {
 public:
  AdoptedWeights(Backend& backend, HostMemory& host, Queue& queue)
      : backend_(backend), host_(host), queue_(queue) {}
  ~AdoptedWeights();
  AdoptedWeights(const AdoptedWeights&) = delete;
  AdoptedWeights& operator=(const AdoptedWeights&) = delete;

  // The same weight for the kernels; w.data is host memory. Lives as long as this object. What
  // copies and packs it is enqueued when the call returns, so that w.data may go; between begin()
  // and finish() it may not, and w.data must stay until finish() or until this object is gone.
  Result<Weight> adopt(const Weight& w, Placement where);
  void begin() { is_loading_ = true; }
  // Waits for all weights and gives back what only their way here needed.
  void finish();

 private:
  struct Copy {
    std::byte* memory;
    int64_t n_bytes;
    Placement where;
    const std::byte* mapped = nullptr;  // instead of memory
    bool in_slab = false;
  };
  struct Slab {
    std::byte* memory;
    int64_t n_bytes, used;
  };
  using Key = std::tuple<const std::byte*, DType, int64_t, int64_t, int64_t>;
  Result<Copy> place(int64_t n_bytes, Placement where);
  Status fill(const Weight& w, std::byte* device);
  bool upload(const Upload& upload);
  void pack(const Weight& w, const std::byte* mapped, std::byte* device);
  // Blocks in ranges through the staging area.
  Status pack_staged(const Weight& w, std::byte* device);
  Status reserve_staging(int64_t n_bytes);

  Backend& backend_;
  HostMemory& host_;
  Queue& queue_;
  std::map<Key, Copy> copies_;
  std::vector<Slab> slabs_;
  std::byte* staging_ = nullptr;  // device memory of raw blocks
  int64_t staging_bytes_ = 0;
  int64_t n_ranges_ = 0;  // that have gone through it
  bool is_loading_ = false;
};

}  // namespace narwhal::gpu
