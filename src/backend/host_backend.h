// HostBackend: what the CPU backend and the reference share, memory that the host can touch.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "backend/backend.h"

namespace narwhal {

class HostBackend : public Backend {
 public:
  Result<std::byte*> allocate(int64_t n_bytes) override;
  void release(std::byte* memory, int64_t n_bytes) override;
  bool is_host() const override { return true; }
  void copy_in(void* device, const void* host, int64_t n) override { copy(device, host, n); }
  void copy_out(void* host, const void* device, int64_t n) override { copy(host, device, n); }
  void copy_device(void* to, const void* from, int64_t n) override { copy(to, from, n); }

 private:
  // Nothing to copy may come with a null pointer, which memcpy must not see.
  static void copy(void* to, const void* from, int64_t n) {
    if (n > 0) std::memcpy(to, from, n);
  }
};

std::unique_ptr<Backend> make_ref_backend();
// kUsage for a level that this machine lacks.
Result<std::unique_ptr<Backend>> make_cpu_backend(const BackendOptions& options);

}  // namespace narwhal
