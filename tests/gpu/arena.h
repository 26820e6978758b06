// operator new of test programs takes from one arena, so that vectors may be handed to ops that run
// on a GPU.
#pragma once

#include <cstddef>

namespace narwhal {

struct ArenaMemory {
  char* begin = nullptr;  // null: no arena, memory is malloc's
  size_t n_bytes = 0;
};

// What the GPU sees, once: cuda_arena.cc or metal_arena.cc.
ArenaMemory open_arena();
// That memory.
ArenaMemory arena_memory();

}  // namespace narwhal
