// What the cores can do at most, measured beside every figure: how fast they read memory, and how
// fast they multiply integers.
//
//   const Limits limits = measure_limits({.n_threads = 8});
//   limits.read.gb_per_s       // read-only sum over 4 GiB with all threads, best of several passes
//   limits.peaks               // best of a dependency-free dot-product loop, per instruction set
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace narwhal::bench {

struct ReadBandwidth {
  double gb_per_s = 0;   // 10^9 bytes
  uint64_t n_bytes = 0;  // summed per pass
  bool reduced = false;  // less than wanted, because memory did not allow it
  // A device's own memory: copies, of which bytes read and bytes written count.
  bool is_device = false;
};

// Multiply-adds of int8 values count as two operations.
struct IntegerPeak {
  std::string level;       // "avx2 maddubs", "avx512 vnni", "amx int8", "neon sdot", ...
  bool is_matrix = false;  // a matrix unit; the others are vector instructions
  double gops = 0;         // 10^9 operations a second, all threads
};

struct Limits {
  int n_threads = 0;
  ReadBandwidth read;
  std::vector<IntegerPeak> peaks;
  // 10^9 bytes a second of plain copies from pinned memory to the device; 0 without a bus.
  double bus_gb_per_s = 0;

  // Best of the vector or of the matrix levels; 0 when there is none.
  double vector_gops() const { return best(false); }
  double matrix_gops() const { return best(true); }

 private:
  double best(bool matrix) const {
    double v = 0;
    for (const IntegerPeak& p : peaks)
      if (p.is_matrix == matrix && p.gops > v) v = p.gops;
    return v;
  }
};

struct LimitsOptions {
  int n_threads = 0;  // 0 = one per physical core
  uint64_t read_bytes = uint64_t{4} << 30;
  int read_passes = 8;
  double peak_seconds = 0.15;  // per level and round
  int peak_rounds = 3;
};

// Takes a few seconds and read_bytes of memory, given back at return; less where less than twice
// that is available.
Limits measure_limits(const LimitsOptions& options);

// The buffer to read when `available` bytes are free: `wanted`, or less in whole mebibytes.
uint64_t read_buffer_bytes(uint64_t wanted, uint64_t available);

// ---- The loops behind it, per instruction set.

struct PeakKernel {
  const char* level;
  bool is_matrix;
  int64_t macs;                     // per iteration
  void (*run)(int64_t iterations);  // one thread
};

// Those that this machine can run.
std::vector<PeakKernel> peak_kernels();

// Sum of n 64-byte lines with the widest loads there are; `p` is aligned to a line.
uint64_t sum_lines(const void* p, int64_t n);

}  // namespace narwhal::bench
