#include "bench/limits.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <functional>
#include <thread>

#include "base/threads.h"
#include "residency/plan.h"

namespace narwhal::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

// Keeps a result alive without costing anything in the loop.
std::atomic<uint64_t>& sink() {
  static std::atomic<uint64_t> value{0};
  return value;
}

// Each thread first touches and then reads its own part, so that on a machine with several memory
// nodes the pages lie beside the cores that read them.
double read_gb_per_s(std::byte* memory, uint64_t n_bytes, int n_threads, int passes) {
  const int64_t lines = static_cast<int64_t>(n_bytes / 64) / n_threads;
  std::barrier<> together(n_threads + 1);
  const auto body = [&](int t) {
    std::byte* own = memory + lines * 64 * t;
    for (int64_t i = 0; i < lines * 64; i += 4096) own[i] = std::byte{1};
    uint64_t sum = 0;
    for (int pass = 0; pass < passes; pass++) {
      together.arrive_and_wait();
      sum += sum_lines(own, lines);
      together.arrive_and_wait();
    }
    sink() += sum;
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < n_threads; t++) threads.emplace_back(body, t);
  double best = 0;
  for (int pass = 0; pass < passes; pass++) {
    together.arrive_and_wait();
    const auto start = Clock::now();
    together.arrive_and_wait();
    const double bytes = static_cast<double>(lines * 64) * n_threads;
    best = std::max(best, bytes / seconds_since(start) * 1e-9);
  }
  for (std::thread& t : threads) t.join();
  return best;
}

ReadBandwidth measure_read(const LimitsOptions& options, int n_threads) {
  ReadBandwidth r;
  r.n_bytes = read_buffer_bytes(options.read_bytes, available_memory());
  r.reduced = r.n_bytes < options.read_bytes;
  void* p = mmap(nullptr, r.n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return {};
#ifdef MADV_HUGEPAGE
  madvise(p, r.n_bytes, MADV_HUGEPAGE);
#endif
  r.gb_per_s = read_gb_per_s(static_cast<std::byte*>(p), r.n_bytes, n_threads, options.read_passes);
  munmap(p, r.n_bytes);
  return r;
}

double peak_gops(const PeakKernel& kernel, int n_threads, double seconds) {
  std::barrier<> together(n_threads);
  std::vector<double> rate(n_threads);
  const auto body = [&](int t) {
    int64_t n = 1000;  // doubled until a call is long enough to time; warms the clock up as well
    double took = 0;
    for (; took < seconds / 4; n *= 2) {
      const auto start = Clock::now();
      kernel.run(n);
      took = seconds_since(start);
    }
    together.arrive_and_wait();  // from here all threads are busy at once
    const auto start = Clock::now();
    kernel.run(n);
    rate[t] = 2.0 * static_cast<double>(kernel.macs * n) / seconds_since(start) * 1e-9;
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < n_threads; t++) threads.emplace_back(body, t);
  for (std::thread& t : threads) t.join();
  double sum = 0;
  for (const double r : rate) sum += r;
  return sum;
}

}  // namespace

uint64_t read_buffer_bytes(uint64_t wanted, uint64_t available) {
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  if (available == 0 || wanted <= available / 2) return std::max(wanted, kMiB);
  return std::max(available / 2 / kMiB * kMiB, kMiB);
}

Limits measure_limits(const LimitsOptions& options) {
  Limits limits;
  limits.n_threads = options.n_threads > 0 ? options.n_threads : default_thread_count();
  limits.read = measure_read(options, limits.n_threads);
  for (const PeakKernel& kernel : peak_kernels()) {
    IntegerPeak peak{kernel.level, kernel.is_matrix, 0};
    for (int round = 0; round < options.peak_rounds; round++)
      peak.gops =
          std::max(peak.gops, peak_gops(kernel, limits.n_threads, options.peak_seconds));
    limits.peaks.push_back(peak);
  }
  return limits;
}

}  // namespace narwhal::bench
