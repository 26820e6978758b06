#include "base/huge_pages.h"

#include <sys/mman.h>

#include <algorithm>

#include "base/threads.h"

namespace narwhal {
namespace {

constexpr int64_t kHuge = int64_t{2} << 20;
constexpr int64_t kSmallestPage = 4096;

int64_t whole(int64_t n_bytes) { return (n_bytes + kHuge - 1) / kHuge * kHuge; }

void unmap(std::byte* p, int64_t n_bytes) {
  if (n_bytes > 0) munmap(p, static_cast<size_t>(n_bytes));
}

}  // namespace

std::byte* map_huge(int64_t n_bytes, int n_threads) {
  const int64_t size = whole(n_bytes);
  // One huge page more, of which only what the alignment leaves is given back.
  void* const p = mmap(nullptr, static_cast<size_t>(size + kHuge), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  auto* const mapped = static_cast<std::byte*>(p);
  const auto skipped =
      static_cast<int64_t>(-reinterpret_cast<uintptr_t>(mapped) % static_cast<uintptr_t>(kHuge));
  std::byte* const memory = mapped + skipped;
  unmap(mapped, skipped);
  unmap(memory + size, kHuge - skipped);
#ifdef MADV_HUGEPAGE
  madvise(memory, static_cast<size_t>(size), MADV_HUGEPAGE);  // small pages do, too
#endif
  ThreadPool(n_threads).run(size / kHuge, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t at = begin * kHuge; at < end * kHuge; at += kSmallestPage)
      *static_cast<volatile std::byte*>(memory + at) = std::byte{0};
  });
  return memory;
}

void unmap_huge(std::byte* memory, int64_t n_bytes) { unmap(memory, whole(n_bytes)); }

}  // namespace narwhal
