#include "arena.h"

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>

namespace {

constexpr size_t kSmallest = 64;
constexpr int kClasses = 26;

struct Arena {
  std::mutex mutex;
  narwhal::ArenaMemory memory;
  char* at = nullptr;
  void* free[kClasses] = {};  // linked lists of freed pieces by power of two
  bool ready = false, opening = false;

  void open() {
    opening = true;
    memory = narwhal::open_arena();
    at = memory.begin;
    opening = false;
    ready = true;
  }
  bool owns(const void* p) const {
    return memory.begin && p >= memory.begin && p < memory.begin + memory.n_bytes;
  }
};

Arena& arena() {
  alignas(Arena) static char memory[sizeof(Arena)];
  static Arena* a = new (memory) Arena;
  return *a;
}

thread_local bool inside = false;  // allocations of open_arena

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
    if (a.memory.begin && c < kClasses) {
      const size_t size = kSmallest << c;
      if (a.free[c]) {
        p = a.free[c];
        a.free[c] = *static_cast<void**>(p);
      } else if (a.at + size <= a.memory.begin + a.memory.n_bytes) {
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

narwhal::ArenaMemory narwhal::arena_memory() { return arena().memory; }

void* operator new(size_t n) {
  void* p = take(n);
  if (!p) std::abort();
  return p;
}
void operator delete(void* p) noexcept { give(p); }
void operator delete(void* p, size_t) noexcept { give(p); }
