// ThreadPool: a fixed set of threads that run one index range at a time.
//
//   ThreadPool pool(8);
//   pool.run(n_rows, grain, [&](int64_t begin, int64_t end, int thread) { ... });
//
// Work is handed out in chunks of `grain` indices; which thread runs which chunk is not fixed, so a
// body must write only what its indices own. One caller at a time; the calling thread takes part.
//
// A step of the model is hundreds of short ranges, so a thread that runs out of work keeps looking
// for more for some tens of microseconds before it sleeps, and a range is done when its chunks are:
// threads that have not woken yet are not waited for. Nothing allocates after construction.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace narwhal {

// Physical cores of this machine that this process may use, within the time that its control group
// has; at least 1.
int default_thread_count();
// The same for hardware threads, of which a core may have two.
int hardware_thread_count();

class ThreadPool {
 public:
  // A view of a callable (begin, end, thread); the callable must outlive the call it is passed to.
  class Body {
   public:
    template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, Body>>>
    Body(F&& f)  // NOLINT(google-explicit-constructor): lambdas are passed as they are
        : object_(const_cast<void*>(static_cast<const void*>(&f))),
          call_([](void* object, int64_t begin, int64_t end, int thread) {
            (*static_cast<std::remove_reference_t<F>*>(object))(begin, end, thread);
          }) {}
    void operator()(int64_t begin, int64_t end, int thread) const {
      call_(object_, begin, end, thread);
    }

   private:
    void* object_;
    void (*call_)(void*, int64_t, int64_t, int);
  };

  // seats: where thread i stays (base/topology.h); empty = wherever the system puts it. The
  // caller's thread is never bound, since threads that it starts would be, too: the first seat is
  // left to it.
  explicit ThreadPool(int n_threads, std::vector<std::vector<int>> seats = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body over [0, n) in chunks of at most `grain` and returns when all are done.
  // thread is in [0, size()). Runs inline when the range fits one chunk.
  void run(int64_t n, int64_t grain, const Body& body);

 private:
  void work(int thread);
  void take_chunks(int thread);
  // Returns once a round other than `last` is open or the pool ends; false for the latter.
  bool wait_for_round(uint64_t last);

  std::vector<std::vector<int>> seats_;
  std::vector<std::thread> workers_;
  int spins_ = 0;  // looks at open_ before sleeping

  // A round is read only by threads that have counted themselves in active_ and then seen it open;
  // the caller closes it and waits for active_ to fall to 0 before it writes the next.
  const Body* body_ = nullptr;
  int64_t n_ = 0, grain_ = 1;
  alignas(64) std::atomic<int64_t> next_{0};
  uint64_t n_rounds_ = 0;
  alignas(64) std::atomic<uint64_t> open_{0};  // the round to join, 0 = none
  alignas(64) std::atomic<int> active_{0};

  alignas(64) std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> n_sleeping_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace narwhal
