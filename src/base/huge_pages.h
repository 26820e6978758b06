// Memory in huge pages, where the system has them, all of it there: whoever pins it for a device
// has a few hundredths of the pages to look at, and finds them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace narwhal {

// Zeros, at a multiple of 2 MiB, touched by n_threads threads; null when the system has not so much
// address space. n_bytes > 0.
std::byte* map_huge(int64_t n_bytes, int n_threads);
void unmap_huge(std::byte* memory, int64_t n_bytes);

}  // namespace narwhal
