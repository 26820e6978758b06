// A progress bar for work that takes over a second: drawn on a terminal, silent in a pipe.
//
//   Progress bar("prefill", n_tokens);
//   for (...) bar.update(done);       // cheap: redraws at most ten times a second
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace narwhal {

class Progress {
 public:
  Progress(std::string label, int64_t total);
  ~Progress();  // erases the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(int64_t done);

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  int64_t total_;
  Clock::time_point start_, last_;
  bool on_terminal_, drawn_ = false;
};

}  // namespace narwhal
