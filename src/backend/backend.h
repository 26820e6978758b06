// Backend: a device that holds memory and runs ops.
//
//   NW_ASSIGN(auto backend, make_backend("auto", {.n_threads = 8}));
//   backend->ops().matmul(...);
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "narwhal/status.h"
#include "ops/ops.h"

namespace narwhal {

// The largest sizes any step will have, so that a backend can set aside all scratch at start.
struct StepLimits {
  int n_rows = 0;            // rows of a step
  int64_t n_index_rows = 0;  // compressed rows one query may have to score
  int max_width = 0;         // longest weight row or head
  int n_experts_used = 0;
  int n_experts = 0;
  int n_hc = 0;
};

struct BackendOptions {
  int n_threads = 0;  // 0 = one per physical core
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;
  // One line for people: device, threads.
  virtual std::string description() const = 0;
  virtual Ops& ops() = 0;

  // Scratch for steps up to these limits; called before the first step and when limits grow.
  virtual Status prepare(const StepLimits& limits) = 0;

  // Zero-filled device memory. Host pointers may be used directly where is_host().
  virtual Result<std::byte*> allocate(int64_t n_bytes) = 0;
  virtual void release(std::byte* memory, int64_t n_bytes) = 0;
  virtual bool is_host() const = 0;
  virtual void copy_in(void* device, const void* host, int64_t n_bytes) = 0;
  virtual void copy_out(void* host, const void* device, int64_t n_bytes) = 0;
  virtual void copy_device(void* to, const void* from, int64_t n_bytes) = 0;

  // Rows of a prefill chunk that this backend likes.
  virtual int preferred_chunk() const = 0;
};

// kUsage for a name that is not built in; the message lists those that are.
Result<std::unique_ptr<Backend>> make_backend(const std::string& name,
                                              const BackendOptions& options);
std::vector<std::string> backend_names();

}  // namespace narwhal
