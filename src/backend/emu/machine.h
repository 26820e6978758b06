// Machine: one multiprocessor on the CPU. Runs groups one after another; every thread of a group is
// a fiber, which gives way at barriers and simd operations until the others have come.
//
// A group whose threads do not all reach a barrier, or that reads shared memory before writing it
// (it starts as NaN bytes), shows at once; missing barriers show under ThreadSanitizer.
#pragma once

#include <cstdint>

#include "backend/emu/fiber.h"
#include "kernels/portable.h"

namespace narwhal::emu {

class Machine {
 public:
  // Calls a kernel's body on one thread.
  using Body = void (*)(const void* kernel, const kernels::Group& g, void* shared);
  static constexpr int kMaxThreads = 1024;

  Machine();
  ~Machine();

  void launch(Body body, const void* kernel, int64_t shared_bytes, int64_t n_groups, int n_threads);

  // What Group asks for; called on the running fiber.
  void barrier();
  void simd_barrier();
  const uint32_t* exchange(const uint32_t* values, int n);
  Copies& copies();
  void await_results() { running().has_awaited = true; }
  bool has_awaited() { return running().has_awaited; }
  void release_next();
  int lane() const { return running_ % 32; }  // of that fiber

 private:
  static constexpr int kMaxValues = 8;
  struct Simd {
    uint32_t values[2][32 * kMaxValues];
    int n_arrived;
    char order;  // a point for ThreadSanitizer
  };
  struct Thread {
    Machine* machine;
    int index;
    uint64_t n_exchanges;
    Fiber* fiber;
    Copies copies;
    bool has_awaited;  // results of earlier launches
  };
  static void thread_main(void* thread);
  void run_thread(Thread& t);
  void run_group();
  void give_way();  // continues the next thread that can go on
  Thread& running();

  Fiber* main_ = nullptr;  // of the launch under way
  // Plain arrays: what a fiber reads on its way out must not be seen by ThreadSanitizer, and calls
  // of library functions would be.
  Thread threads_[kMaxThreads] = {};
  Simd simds_[kMaxThreads / 32] = {};
  Body body_ = nullptr;
  const void* kernel_ = nullptr;
  std::byte* shared_ = nullptr;
  int64_t group_ = 0;
  int n_threads_ = 0, n_done_ = 0, n_arrived_ = 0, running_ = 0;
  enum State : uint8_t { kReady, kAtSimd, kAtBarrier, kDone };
  volatile State state_[kMaxThreads] = {};  // volatile: no calls of memset
  int n_fibers_ = 0;
  char group_order_ = 0, start_order_ = 0, end_order_ = 0;  // points for ThreadSanitizer
};

}  // namespace narwhal::emu
