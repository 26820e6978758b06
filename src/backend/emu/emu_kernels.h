// Every kernel as the emulator's machine runs it, by the number that a launch names it with.
#pragma once

#include <cstdint>

#include "backend/emu/machine.h"
#include "backend/gpu/kernel_id.h"

namespace narwhal::emu {

struct EmulatedKernel {
  Machine::Body body;
  int64_t n_bytes, shared_bytes;  // of its struct; of a group's shared memory
};

const EmulatedKernel& kernel_of(gpu::KernelId id);

}  // namespace narwhal::emu
