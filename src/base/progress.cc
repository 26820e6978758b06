#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace narwhal {

Progress::Progress(std::string label, int64_t total)
    : label_(std::move(label)),
      total_(std::max<int64_t>(total, 1)),
      start_(Clock::now()),
      last_(start_),
      on_terminal_(isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
  if (drawn_) fmt::print(stderr, "\r\033[K");
}

void Progress::update(int64_t done) {
  using std::chrono::duration;
  const auto now = Clock::now();
  if (!on_terminal_ || now - last_ < std::chrono::milliseconds(100)) return;
  const double seconds = duration<double>(now - start_).count();
  if (seconds < 1) return;
  last_ = now;
  drawn_ = true;
  const double share = std::clamp(double(done) / double(total_), 0.0, 1.0);
  const int width = 30, filled = static_cast<int>(share * width);
  const double left = share > 0 ? seconds * (1 - share) / share : 0;
  fmt::print(stderr, "\r{} [{:#<{}}{:.<{}}] {:3.0f}%  {:.0f}s left\033[K", label_, "", filled, "",
             width - filled, share * 100, left);
  std::fflush(stderr);
}

}  // namespace narwhal
