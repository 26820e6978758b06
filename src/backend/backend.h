// Backend: a device that holds memory and runs ops.
//
//   NW_ASSIGN(auto backend, make_backend("auto", {.n_threads = 8}));
//   backend->ops().matmul(...);
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
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
  int64_t d_model = 0;
  int n_heads = 0, head_dim = 0;
  // Most values of one row that a product reads, and that routed experts read (all its choices
  // together); 0: max_width, and as often as there are choices.
  int64_t max_inputs = 0, expert_inputs = 0;
};

// What tells recorded steps apart.
struct StepKey {
  int n_rows = 0, n_logits = 0;
  const void* memory = nullptr;  // of the sequences and activations
  bool operator==(const StepKey&) const = default;
};

// Where a weight lies for the kernels.
enum class Placement {
  kDevice,
  kHost,  // this machine's memory, pinned, which the device reads over its bus
};

struct BackendOptions {
  int n_threads = 0;               // 0 = one per physical core
  std::string pin = "auto";        // auto, on, off: base/topology.h
  std::string cpu_level = "auto";  // instruction sets of the CPU backend (cpu/kernels/level.h)
  // Products with quantised weights on f32 activations, for comparisons (KvPrecision::kF32). Else
  // the CPU backend rounds activations, finer than the model was trained with
  // (cpu/kernels/kernels.h).
  bool exact_products = false;
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
  // Bytes of the backend's memory that prepare(limits) sets aside.
  virtual int64_t scratch_bytes(const StepLimits&) const { return 0; }

  // Zero-filled device memory. Host pointers may be used directly where is_host().
  virtual Result<std::byte*> allocate(int64_t n_bytes) = 0;
  // The same with any content, for what is written whole before it is read.
  virtual Result<std::byte*> allocate_unset(int64_t n_bytes) { return allocate(n_bytes); }
  virtual void release(std::byte* memory, int64_t n_bytes) = 0;
  virtual bool is_host() const = 0;
  virtual void copy_in(void* device, const void* host, int64_t n_bytes) = 0;
  // Waits for everything enqueued, as Ops::sync does.
  virtual void copy_out(void* host, const void* device, int64_t n_bytes) = 0;
  virtual void copy_device(void* to, const void* from, int64_t n_bytes) = 0;

  // The weight as this backend computes with it; w.data is host memory. Host backends use it where
  // it lies; devices copy it, once for weights that share bytes, and keep it until they go. Ops
  // take adopted weights only.
  virtual Result<Weight> adopt(const Weight& w, Placement) { return w; }
  // Around the adopt() of a whole model, which then goes on without a pause between weights. What
  // adopt() was given must stay, and no op may run, until finish_loading(), which is also called
  // when an adopt() failed: it waits until all weights are there and gives back what only their way
  // needed.
  virtual void begin_loading() {}
  virtual void finish_loading() {}
  // How fast pinned memory of this machine comes to the device, measured now, in 10^9 bytes a
  // second; 0 where there is no bus between them.
  virtual double measure_bus() { return 0; }
  // How fast the device copies within its own memory, bytes read and written, likewise; 0 where
  // that is the memory of this machine.
  virtual double measure_memory() { return 0; }
  // Whether adopt(kHost) is possible.
  virtual bool reads_host_memory() const { return false; }

  // Free memory of the device; nothing where that is the memory of this machine.
  virtual std::optional<uint64_t> device_memory() const { return std::nullopt; }

  // Runs `step`, which enqueues the same ops whenever `key` is the same, or replays what it
  // enqueued the last time: nothing in it depends on host values that change.
  virtual void run_step(const StepKey& key, const std::function<void()>& step) {
    (void)key;
    step();
  }

  // Rows of a prefill chunk that this backend likes.
  virtual int preferred_chunk() const = 0;
};

// kUsage for a name that is not built in; the message lists those that are.
Result<std::unique_ptr<Backend>> make_backend(const std::string& name,
                                              const BackendOptions& options);
std::vector<std::string> backend_names();

}  // namespace narwhal
