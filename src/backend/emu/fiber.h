// Fiber: a function with a stack of its own on the calling thread. Switching costs some
// nanoseconds.
//
// Under ThreadSanitizer every fiber counts as a thread and a switch orders nothing, so two fibers
// that touch the same memory without a barrier between them are reported as a race.
#pragma once

#include <cstddef>

namespace narwhal::emu {

class Fiber {
 public:
  using Body = void (*)(void* argument);

  // `body` must never return: it switches away when it is done.
  Fiber(Body body, void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The fiber (or plain thread) that is running now.
  Fiber();

  // Leaves `from`, which must be running, and continues `to`.
  static void run(Fiber& from, Fiber& to);

 private:
  friend void fiber_entry(Fiber* fiber);
  void* sp_ = nullptr;
  std::byte* stack_ = nullptr;
  Body body_ = nullptr;
  void* argument_ = nullptr;
  void* sanitizer_ = nullptr;     // TSan's fiber, ASan's fake stack
  const void* bottom_ = nullptr;  // of the stack, for ASan
  size_t size_ = 0;
};

// Orders memory between fibers for ThreadSanitizer; nothing otherwise.
void order_before(void* point);
void order_after(void* point);

}  // namespace narwhal::emu
