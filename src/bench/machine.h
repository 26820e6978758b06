// What a figure was measured on: the processor, the memory and the build.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace narwhal::bench {

struct Machine {
  std::string cpu;        // model name as the system tells it
  int n_cores = 0;        // physical cores this process may use
  int n_threads = 0;      // hardware threads this process may use
  uint64_t memory = 0;    // bytes
  uint64_t l3_bytes = 0;  // of one cache; 0 = unknown
  double load = 0;        // runnable threads of others, averaged over a minute
  std::string system;     // "Linux 6.1 x86_64"
};

Machine this_machine();

// What this process holds in memory now.
struct MemoryUse {
  uint64_t anonymous = 0;  // allocated and touched
  uint64_t mapped = 0;     // pages of files
};
// From the text of /proc/self/status; nothing where the system does not tell.
std::optional<MemoryUse> parse_memory_use(std::string_view status);
std::optional<MemoryUse> memory_use();

// The processor's name in the text of /proc/cpuinfo, empty when it has none (many ARM systems).
std::string cpu_name(std::string_view cpuinfo);

// "480M", "32768K" as /sys writes cache sizes; 0 for anything else.
uint64_t parse_cache_size(std::string_view text);

std::string_view build_version();
// The commit this program was built from, with "+" where tracked files differed from it; "unknown"
// outside a git checkout.
std::string_view build_commit();
// "g++ 12.2.0, Release".
std::string_view build_compiler();

// "2026-03-01T12:00:00Z".
std::string utc_now();

}  // namespace narwhal::bench
