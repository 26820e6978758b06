// Pinned memory, which has the same addresses on the GPU. Launches wait for their end, as the tests
// look at results at once.
#include <cstdlib>

#include "arena.h"
#include "backend/cuda/runtime.h"

narwhal::ArenaMemory narwhal::open_arena() {
  constexpr size_t kBytes = size_t{1} << 30;
  setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
  void* p = nullptr;
  const bool ok = cudaHostAlloc(&p, kBytes, cudaHostAllocMapped) == cudaSuccess;
  cudaGetLastError();
  return ok ? ArenaMemory{static_cast<char*>(p), kBytes} : ArenaMemory{};
}
