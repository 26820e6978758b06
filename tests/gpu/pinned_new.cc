// Memory of test programs that a GPU can read and write: operator new takes from one pinned arena,
// so the op tests, which hand vectors to the ops, run on CUDA unchanged. Launches wait for their
// end, as the tests look at results at once. Without a GPU this is malloc.
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>

#include "backend/cuda/runtime.h"

namespace {

constexpr size_t kArenaBytes = size_t{1} << 30, kSmallest = 64;
constexpr int kClasses = 26;

struct Arena {
  std::mutex mutex;
  char *begin = nullptr, *at = nullptr;
  void* free[kClasses] = {};  // linked lists of freed pieces by power of two
  bool ready = false, opening = false;

  void open() {
    opening = true;
    setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
    void* p = nullptr;
    if (cudaHostAlloc(&p, kArenaBytes, cudaHostAllocMapped) == cudaSuccess)
      begin = at = static_cast<char*>(p);
    cudaGetLastError();
    opening = false;
    ready = true;
  }
  bool owns(const void* p) const { return begin && p >= begin && p < begin + kArenaBytes; }
};

Arena& arena() {
  alignas(Arena) static char memory[sizeof(Arena)];
  static Arena* a = new (memory) Arena;
  return *a;
}

thread_local bool inside = false;  // CUDA's own allocations

int class_of(size_t n) {
  int c = 0;
  while ((kSmallest << c) < n + kSmallest) c++;
  return c;
}

void* take(size_t n) {
  if (inside) return std::malloc(n);
  inside = true;
  Arena& a = arena();
  void* p = nullptr;
  {
    const std::lock_guard lock(a.mutex);
    if (!a.ready && !a.opening) a.open();
    const int c = class_of(n);
    if (a.begin && c < kClasses) {
      const size_t size = kSmallest << c;
      if (a.free[c]) {
        p = a.free[c];
        a.free[c] = *static_cast<void**>(p);
      } else if (a.at + size <= a.begin + kArenaBytes) {
        p = a.at;
        a.at += size;
      }
      // The size class lies before the piece.
      if (p) {
        *static_cast<int*>(p) = c;
        p = static_cast<char*>(p) + kSmallest;
      }
    }
  }
  inside = false;
  return p ? p : std::malloc(n);
}

void give(void* p) {
  Arena& a = arena();
  if (!a.owns(p)) return std::free(p);
  const std::lock_guard lock(a.mutex);
  void* piece = static_cast<char*>(p) - kSmallest;
  const int c = *static_cast<int*>(piece);
  *static_cast<void**>(piece) = a.free[c];
  a.free[c] = piece;
}

}  // namespace

void* operator new(size_t n) {
  void* p = take(n);
  if (!p) std::abort();
  return p;
}
void operator delete(void* p) noexcept { give(p); }
void operator delete(void* p, size_t) noexcept { give(p); }
