// A stand-in for Metal, so that the host side of the Metal backend runs without a Mac. Strict where
// Metal may go wrong quietly:
//
//   addresses  the GPU's view of a buffer is a mapping of its own, open only while a pass runs that
//              names the buffer, and the host's view is closed meanwhile
//   time       nothing runs before it is waited for
//   order      a pass that does not wait for the fence of the pass before aborts
//   life       a buffer that goes while a command buffer still needs it aborts, and so does what is
//              autoreleased outside a pool
//
// Kernels run in Metal's vocabulary over a library of ours (gpu/metal_stdlib). What cannot be
// shown: whether Apple's compiler takes them, what they do there, speed.
#pragma once

#include <cstdint>
#include <string>

namespace narwhal::fake_metal {

// What the next calls meet.
struct Settings {
  bool has_device = true, is_apple = true;
  int macos = 14;
  std::string compile_error = {};   // the library does not compile
  std::string missing_kernel = {};  // "nw_add": is not in the library
  std::string broken_kernel = {};   // has no pipeline
  uint64_t simd_width = 32, max_threads = 1024;
  uint64_t largest_buffer = uint64_t{1} << 34, working_set = uint64_t{1} << 34;
  bool maps_host_memory = true;
  int failing_buffer = -1;  // so many command buffers from now, one fails
};
Settings& settings();

struct Counts {
  int n_objects = 0;         // alive
  int64_t buffer_bytes = 0;  // alive, allocated
  int64_t mapped_bytes = 0;  // alive, of the host
  int64_t n_command_buffers = 0, n_dispatches = 0, n_commits_before_wait = 0;
  bool fast_math = true;  // of the last library
};
Counts& counts();

}  // namespace narwhal::fake_metal
