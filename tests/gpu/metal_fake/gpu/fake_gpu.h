// The fake GPU: the kernels in Metal's vocabulary on the emulator's machine. A library of its own,
// whose names stay inside, as the same names mean something else in the rest of the program.
#pragma once

#include <cstdint>

struct FakeGpuKernel {
  const char* name;
  int64_t argument_bytes, shared_bytes;
  int n_threads;
};

extern "C" {
const FakeGpuKernel* fake_gpu_kernels(int* n);
void fake_gpu_run(int kernel, const void* arguments, int64_t n_groups, int n_threads);
}
