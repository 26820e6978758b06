// The machine under the fake GPU's kernels (lanes.cc): the emulator, by functions of plain types,
// as its own headers have another vocabulary than Metal's.
#pragma once

#include <cstdint>

// One thread of a kernel.
using LanesBody = void (*)(const void* kernel, unsigned group, unsigned index, unsigned size,
                           void* shared);
void lanes_launch(LanesBody body, const void* kernel, int64_t shared_bytes, int64_t n_groups,
                  int n_threads);

// Of the thread that runs.
int lanes_index();
void lanes_group_barrier();
void lanes_barrier();
const uint32_t* lanes_exchange(const uint32_t* values, int n);  // [32][n]
