// A few threads for what would hold up the IO thread: parsing and tokenising prompts.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace narwhal::serve {

class Workers {
 public:
  explicit Workers(int n) {
    for (int i = 0; i < n; i++) threads_.emplace_back([this] { work(); });
  }
  // Work that has not begun is dropped.
  ~Workers() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  void run(std::function<void()> f) {
    {
      const std::lock_guard lock(mutex_);
      todo_.push_back(std::move(f));
    }
    wake_.notify_one();
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stop_ || !todo_.empty(); });
      if (stop_) return;
      const auto f = std::move(todo_.front());
      todo_.pop_front();
      lock.unlock();
      f();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> todo_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace narwhal::serve
