// Whether what is about to be written fits, and keeping writers from outrunning memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include "narwhal/status.h"

namespace narwhal::synth_detail {

// Bytes of memory that programs may still take without swapping. Nothing where the system does not
// say (any but Linux).
std::optional<uint64_t> available_memory();

// kFailed when the file system of `path` has less than n_bytes free, kNoMemory when it lies in
// memory and the machine has less than that.
Status check_space(const std::string& path, uint64_t n_bytes);

// Holds writers while little memory is available, but for at most three seconds at a stretch.
// Virtual machines whose memory grows on demand lag behind many writers, and the growth may begin
// only below the floor chosen here.
class MemoryGate {
 public:
  // A floor of 0 never closes and starts no thread.
  explicit MemoryGate(uint64_t floor_bytes);
  ~MemoryGate();
  MemoryGate(const MemoryGate&) = delete;
  MemoryGate& operator=(const MemoryGate&) = delete;

  // Returns when the gate is open. Thread-safe.
  void pass() const;

 private:
  void watch();

  uint64_t floor_;
  std::atomic<bool> stop_{false}, closed_{false};
  std::thread watcher_;
};

}  // namespace narwhal::synth_detail
