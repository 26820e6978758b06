// Memory of this machine that the device reads over its bus, at one address for both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "narwhal/status.h"

namespace narwhal::cuda {

class PinnedMemory {
 public:
  PinnedMemory() = default;
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  Result<std::byte*> allocate(int64_t n_bytes);
  // The device must be done with it.
  void release(std::byte* memory);

 private:
  std::map<std::byte*, int64_t> registered_;  // bytes of ours; all other memory is CUDA's
  bool may_register_ = true;
};

}  // namespace narwhal::cuda
