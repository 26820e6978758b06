// ThreadPool: a fixed set of threads that run one index range at a time.
//
//   ThreadPool pool(8);
//   pool.run(n_rows, [&](int64_t begin, int64_t end, int thread) { ... });
//
// Work is handed out in chunks of `grain` indices; which thread runs which chunk is not fixed, so a
// body must write only what its indices own. One caller at a time; the calling thread takes part.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace narwhal {

// Physical cores of this machine that this process may use; at least 1.
int default_thread_count();

class ThreadPool {
 public:
  using Body = std::function<void(int64_t begin, int64_t end, int thread)>;

  explicit ThreadPool(int n_threads);
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

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const Body* body_ = nullptr;
  int64_t n_ = 0, grain_ = 1;
  std::atomic<int64_t> next_{0};
  uint64_t generation_ = 0;
  int n_busy_ = 0;
  bool stop_ = false;
};

}  // namespace narwhal
