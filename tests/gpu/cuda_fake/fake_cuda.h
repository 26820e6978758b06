// A stand-in for CUDA's runtime library, so that the host side of the CUDA backend runs without a
// GPU. Strict where CUDA may go wrong quietly:
//
//   time       nothing runs before the host waits for it, and then in the order that is asked for
//              below: what no event orders runs early, late or at random
//   memory     of the device is closed to the host, begins as noise, and goes when it is freed
//   copies     to and from memory that is not pinned wait; those of pinned memory read it as it is
//              when they run
//   faults     are sticky
//
// Kernels are the emulator's. What cannot be shown: what CUDA makes of them, speed.
#pragma once

#include <cstdint>

namespace narwhal::fake_cuda {

// Which of two streams goes on, where both can, while the host waits for one.
enum class Order {
  kLate,   // the one that is waited for: the other does only what that needs
  kEarly,  // the other, as far as it gets
  kRandom,
};

// What the next calls meet.
struct Settings {
  int n_devices = 1, major = 9, minor = 0;
  int64_t memory_bytes = int64_t{1} << 32;
  bool registers_host_memory = true;
  int failing_launch = -1;  // so many launches from now, one fails
  Order order = Order::kRandom;
};
Settings& settings();

struct Counts {
  int n_objects = 0;                   // alive: streams, events, graphs, pieces of memory
  int64_t device_bytes = 0;            // alive
  int n_launches = 0, n_recorded = 0;  // that ran one by one; as part of recordings
  int n_replays = 0, n_waits = 0;      // of recordings; of the host
  int n_copies_ahead = 0;              // that ran before a launch enqueued before them
};
Counts& counts();

// Everything enqueued is forgotten and faults with it, as in a new process.
void reset();

}  // namespace narwhal::fake_cuda
