#include "backend/cuda/pinned.h"

#include <fmt/format.h>

#include <algorithm>

#include "backend/cuda/runtime.h"
#include "base/huge_pages.h"
#include "base/threads.h"

namespace narwhal::cuda {
namespace {

constexpr int kMostThreads = 12;

// Null where it cannot be: a device may see memory of ours at another address.
std::byte* registered(int64_t n_bytes) {
  const int n_threads = std::min(hardware_thread_count(), kMostThreads);
  std::byte* const memory = map_huge(n_bytes, n_threads);
  if (!memory) return nullptr;
  if (cudaHostRegister(memory, n_bytes, cudaHostRegisterMapped | cudaHostRegisterPortable) ==
      cudaSuccess) {
    void* device = nullptr;
    if (cudaHostGetDevicePointer(&device, memory, 0) == cudaSuccess && device == memory)
      return memory;
    cudaHostUnregister(memory);
  }
  cudaGetLastError();
  unmap_huge(memory, n_bytes);
  return nullptr;
}

}  // namespace

// cudaHostAlloc takes small pages, one by one: 0.35 s a GB, in which nothing else goes on.
Result<std::byte*> PinnedMemory::allocate(int64_t n_bytes) {
  if (may_register_) {
    if (std::byte* const memory = registered(n_bytes)) {
      registered_[memory] = n_bytes;
      return memory;
    }
    may_register_ = false;  // to try costs the time of touching it all
  }
  void* p = nullptr;
  if (const cudaError_t e = cudaHostAlloc(&p, n_bytes, cudaHostAllocMapped); e != cudaSuccess) {
    cudaGetLastError();
    return no_memory(
        fmt::format("{} MiB of this machine's memory cannot be pinned for the GPU ({})",
                    n_bytes >> 20, cudaGetErrorString(e)));
  }
  return static_cast<std::byte*>(p);
}

void PinnedMemory::release(std::byte* memory) {
  const auto found = registered_.find(memory);
  if (found == registered_.end()) {
    cudaFreeHost(memory);
    return;
  }
  cudaHostUnregister(memory);
  unmap_huge(memory, found->second);
  registered_.erase(found);
}

}  // namespace narwhal::cuda
