#include "backend/emu/machine.h"

#include <cstring>
#include <vector>

#include "base/check.h"

// The machine's own bookkeeping is shared by all fibers of one thread on purpose.
#if defined(__clang__) || defined(__GNUC__)
#define NW_UNSEEN __attribute__((no_sanitize("thread")))
#else
#define NW_UNSEEN
#endif
#if defined(__SANITIZE_THREAD__)
#define NW_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NW_TSAN 1
#endif
#endif

namespace narwhal::emu {

void misaligned(const void* p) { NW_CHECK(false, "16 bytes at {}, which 16 does not divide", p); }

Machine::Machine() = default;

Machine::~Machine() {
  for (int i = 0; i < n_fibers_; i++) delete threads_[i].fiber;
}

NW_UNSEEN Machine::Thread& Machine::running() { return threads_[running_]; }

NW_UNSEEN void Machine::launch(Body body, const void* kernel, int64_t shared_bytes,
                               int64_t n_groups, int n_threads) {
  NW_CHECK(n_threads % 32 == 0 && n_threads <= kMaxThreads, "{} threads", n_threads);
  body_ = body;
  kernel_ = kernel;
  n_threads_ = n_threads;
  for (; n_fibers_ < n_threads; n_fibers_++) {
    Thread& t = threads_[n_fibers_];
    t.machine = this;
    t.index = n_fibers_;
    t.fiber = new Fiber(&thread_main, &t);
  }
  const size_t stride = (static_cast<size_t>(shared_bytes) + 15) / 16 * 16;
#ifdef NW_TSAN
  // Memory of its own for every group: sharing it would need an order between groups, and that
  // would hide races between them in device memory.
  const auto copies = static_cast<size_t>(n_groups);
#else
  const size_t copies = 1;
#endif
  std::vector<std::byte> shared(copies * stride + 16, std::byte{0xFF});
  auto* base =
      reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(shared.data()) + 15) / 16 * 16);
  Fiber main;
  main_ = &main;
  order_before(&start_order_);
  for (group_ = 0; group_ < n_groups; group_++) {
    shared_ = base + (copies > 1 ? group_ * stride : 0);
    if (copies == 1 && group_ > 0) std::memset(shared_, 0xFF, stride);
    run_group();
  }
  order_after(&end_order_);
}

NW_UNSEEN void Machine::run_group() {
  n_done_ = n_arrived_ = running_ = 0;
  for (int i = 0; i < n_threads_; i++) {
    state_[i] = kReady;
    threads_[i].n_exchanges = 0;
    threads_[i].copies.n = 0;
    threads_[i].has_awaited = false;
  }
  for (int s = 0; s < n_threads_ / 32; s++) simds_[s].n_arrived = 0;
  Fiber::run(*main_, *threads_[0].fiber);
}

NW_UNSEEN void Machine::thread_main(void* thread) {
  auto& t = *static_cast<Thread*>(thread);
  for (;;) t.machine->run_thread(t);
}

// One group on one thread, then away: to the next thread, or to the launch after the last.
NW_UNSEEN void Machine::run_thread(Thread& t) {
  order_after(&start_order_);
  const auto i = static_cast<unsigned>(t.index);
  const kernels::Group g{
      {static_cast<unsigned>(group_), i, static_cast<unsigned>(n_threads_), i % 32, i / 32}, this};
  body_(kernel_, g, shared_);
  order_before(&end_order_);  // not the start's: groups of a launch have no order
  state_[t.index] = kDone;
  if (++n_done_ == n_threads_)
    Fiber::run(*t.fiber, *main_);
  else
    give_way();
}

NW_UNSEEN void Machine::give_way() {
  Thread& from = running();
  int next = running_;
  for (int i = 0; i < n_threads_; i++) {
    next = next + 1 < n_threads_ ? next + 1 : 0;
    if (state_[next] != kReady) continue;
    running_ = next;
    if (next != from.index) Fiber::run(*from.fiber, *running().fiber);
    return;
  }
  NW_CHECK(false,
           "group {}: {} threads ended, the others wait for a barrier or a simd operation that not "
           "all reach",
           group_, n_done_);
}

NW_UNSEEN void Machine::barrier() {
  order_before(&group_order_);
  if (++n_arrived_ == n_threads_) {
    n_arrived_ = 0;
    for (int i = 0; i < n_threads_; i++) state_[i] = kReady;
  } else {
    state_[running_] = kAtBarrier;
    give_way();
  }
  order_after(&group_order_);
}

void Machine::release_next() {
  NW_CHECK(has_awaited(), "group {} releases the next launch before it has awaited results",
           group_);
}

NW_UNSEEN void Machine::simd_barrier() {
  Simd& simd = simds_[running_ / 32];
  order_before(&simd.order);
  const uint32_t nothing = 0;
  exchange(&nothing, 1);
  order_after(&simd.order);
}

NW_UNSEEN const uint32_t* Machine::exchange(const uint32_t* values, int n) {
  Simd& simd = simds_[running_ / 32];
  // Two buffers: nobody can be two operations ahead of a lane that still reads. volatile, as a call
  // of memcpy would be seen.
  volatile uint32_t* all = simd.values[running().n_exchanges++ % 2];
  for (int i = 0; i < n; i++) all[running_ % 32 * n + i] = values[i];
  if (++simd.n_arrived == 32) {
    simd.n_arrived = 0;
    for (int i = running_ / 32 * 32; i < running_ / 32 * 32 + 32; i++) state_[i] = kReady;
  } else {
    state_[running_] = kAtSimd;
    give_way();
  }
  return const_cast<const uint32_t*>(all);
}

NW_UNSEEN Copies& Machine::copies() { return running().copies; }

void barrier(Machine& m) { m.barrier(); }
void simd_barrier(Machine& m) { m.simd_barrier(); }
const uint32_t* exchange(Machine& m, uint32_t value) { return m.exchange(&value, 1); }
Copies& copies(Machine& m) { return m.copies(); }
void await_results(Machine& m) { m.await_results(); }
void release_next(Machine& m) { m.release_next(); }
const uint32_t* exchange_many(Machine& m, const uint32_t* values, int n) {
  return m.exchange(values, n);
}

}  // namespace narwhal::emu
