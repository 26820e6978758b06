#include "bench/limits.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
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

// When the threads of one pass worked. A clock kept by another thread would miss their start on a
// machine whose cores are all busy.
class Span {
 public:
  explicit Span(int n_threads) : start_(n_threads), end_(n_threads) {}
  void start(int thread) { start_[thread] = Clock::now(); }
  void end(int thread) { end_[thread] = Clock::now(); }
  // From the first start to the last end.
  double seconds() const {
    const auto from = *std::min_element(start_.begin(), start_.end());
    return std::chrono::duration<double>(*std::max_element(end_.begin(), end_.end()) - from)
        .count();
  }

 private:
  std::vector<Clock::time_point> start_, end_;
};

template <class Body>
void run_threads(int n_threads, const Body& body) {
  std::vector<std::thread> threads;
  for (int t = 1; t < n_threads; t++) threads.emplace_back(body, t);
  body(0);
  for (std::thread& t : threads) t.join();
}

// Each thread first touches and then reads its own part, so that on a machine with several memory
// nodes the pages lie beside the cores that read them.
double read_gb_per_s(std::byte* memory, uint64_t n_bytes, int n_threads, int passes) {
  const int64_t lines = static_cast<int64_t>(n_bytes / 64) / n_threads;
  std::barrier<> together(n_threads);
  std::vector<Span> spans(passes, Span(n_threads));
  run_threads(n_threads, [&](int t) {
    std::byte* own = memory + lines * 64 * t;
    for (int64_t i = 0; i < lines * 64; i += 4096) own[i] = std::byte{1};
    uint64_t sum = 0;
    for (Span& span : spans) {
      together.arrive_and_wait();
      span.start(t);
      sum += sum_lines(own, lines);
      span.end(t);
    }
    sink() += sum;
  });
  double best = 0;
  for (const Span& span : spans)
    best = std::max(best, static_cast<double>(lines * 64 * n_threads) / span.seconds() * 1e-9);
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
  std::vector<int64_t> count(n_threads);
  Span span(n_threads);
  int64_t common = 0;
  run_threads(n_threads, [&](int t) {
    int64_t n = 1000;  // doubled until a call is long enough to time; warms the clock up as well
    for (double took = 0; took < seconds / 2;) {
      const auto start = Clock::now();
      kernel.run(n *= 2);
      took = seconds_since(start);
    }
    count[t] = n;
    together.arrive_and_wait();
    if (t == 0) common = *std::max_element(count.begin(), count.end());
    together.arrive_and_wait();  // from here all threads are busy at once
    span.start(t);
    kernel.run(common);
    span.end(t);
  });
  return 2.0 * static_cast<double>(kernel.macs * common * n_threads) / span.seconds() * 1e-9;
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
      peak.gops = std::max(peak.gops, peak_gops(kernel, limits.n_threads, options.peak_seconds));
    limits.peaks.push_back(peak);
  }
  return limits;
}

}  // namespace narwhal::bench
