// Counters of the server, in Prometheus' text format. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "kvstore/kv_store.h"

namespace narwhal::serve {

// CPU time of the calling thread.
int64_t thread_cpu_us();

struct Metrics {
  std::atomic<int64_t> requests{0}, refused{0}, failed{0}, cancelled{0}, completed{0};
  std::atomic<int64_t> prompt_tokens{0}, cached_tokens{0}, generated_tokens{0};
  std::atomic<int64_t> prefill_us{0}, decode_us{0}, busy_us{0};
  std::atomic<int64_t> steps{0}, repaired_calls{0}, rewritten_blocks{0}, resumed{0};
  // CPU time of the scheduler outside of steps, and of the IO thread.
  std::atomic<int64_t> scheduler_us{0}, io_us{0};
  // Gauges.
  std::atomic<int64_t> queued{0}, running{0}, connections{0};

  // Seconds to the first token, cumulative as Prometheus wants it.
  static constexpr std::array<double, 10> kBounds = {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300};
  std::array<std::atomic<int64_t>, 11> first_token_counts{};
  std::atomic<int64_t> first_token_us{0};
  void observe_first_token(double seconds);

  // With what the disk store did, where there is one.
  std::string text(const KvStats* store = nullptr) const;
};

}  // namespace narwhal::serve
