#include "base/threads.h"

#include <algorithm>
#include <utility>

#include "base/topology.h"

namespace narwhal {

namespace {

int known_or_all(int n) {
  return n > 0 ? n : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace

int default_thread_count() { return known_or_all(cores_to_use(usable_cpus(), cpu_quota())); }
int hardware_thread_count() { return known_or_all(cpus_to_use(usable_cpus(), cpu_quota())); }

namespace {

// Looks at a variable before giving up: about 50 us, longer than the serial stretches of a step.
constexpr int kSpins = 2000;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int n_threads, std::vector<std::vector<int>> seats)
    : seats_(std::move(seats)) {
  // More threads than processors: looking would keep the others from working.
  spins_ = n_threads <= static_cast<int>(std::thread::hardware_concurrency()) ? kSpins : 0;
  for (int i = 1; i < n_threads; i++) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& t : workers_) t.join();
}

void ThreadPool::take_chunks(int thread) {
  for (;;) {
    const int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
    if (begin >= n_) return;
    (*body_)(begin, std::min(begin + grain_, n_), thread);
  }
}

void ThreadPool::run(int64_t n, int64_t grain, const Body& body) {
  if (n <= 0) return;
  if (workers_.empty() || n <= grain) {
    for (int64_t begin = 0; begin < n; begin += grain) body(begin, std::min(begin + grain, n), 0);
    return;
  }
  body_ = &body;
  n_ = n;
  grain_ = grain;
  next_.store(0, std::memory_order_relaxed);
  open_ = ++n_rounds_;  // sequentially consistent, as the sleeper's count: one sees the other
  if (n_sleeping_ > 0) {
    { std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  take_chunks(0);
  open_ = 0;
  for (int spin = 0; active_ > 0; spin++) {
    if (spin < spins_)
      pause();
    else
      std::this_thread::yield();  // its thread may need this processor
  }
}

bool ThreadPool::wait_for_round(uint64_t last) {
  const auto has_new = [&] {
    const uint64_t round = open_;
    return round != 0 && round != last;
  };
  for (int spin = 0; spin < spins_; spin++) {
    if (has_new()) return true;
    if (stop_.load(std::memory_order_relaxed)) return false;
    pause();
  }
  std::unique_lock lock(mutex_);
  n_sleeping_++;
  wake_.wait(lock, [&] { return stop_ || has_new(); });
  n_sleeping_--;
  return !stop_;
}

void ThreadPool::work(int thread) {
  if (thread < static_cast<int>(seats_.size())) sit(seats_[thread]);
  uint64_t last = 0;
  while (wait_for_round(last)) {
    active_++;
    if (const uint64_t round = open_; round != 0) {
      last = round;
      take_chunks(thread);
    }
    active_--;
  }
}

}  // namespace narwhal
