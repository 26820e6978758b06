#include <fmt/format.h>

#include "backend/cpu/cpu_ops.h"
#include "backend/host_backend.h"
#include "base/topology.h"

namespace narwhal {
namespace {

class CpuBackend : public HostBackend {
 public:
  CpuBackend(int n_threads, cpu::Level level, bool exact, std::vector<std::vector<int>> seats)
      : pinned_(!seats.empty()), ops_(n_threads, cpu::kernels(level), exact, std::move(seats)) {}
  std::string_view name() const override { return "cpu"; }
  std::string description() const override {
    return fmt::format("CPU, {} threads{}, {}", ops_.n_threads(), pinned_ ? " on a core each" : "",
                       cpu::level_name(ops_.level()));
  }
  Ops& ops() override { return ops_; }
  Status prepare(const StepLimits& limits) override {
    ops_.prepare(limits);
    return ok_status();
  }
  int64_t scratch_bytes(const StepLimits& limits) const override {
    return ops_.scratch_bytes(limits);
  }
  // An expert of the large model sees 6/256 of the rows: with 2048 it has 48, and unpacking its
  // weights costs about as much as multiplying them.
  int preferred_chunk() const override { return 2048; }

 private:
  bool pinned_;
  CpuOps ops_;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_cpu_backend(const BackendOptions& options) {
  NW_ASSIGN(const cpu::Level level, cpu::find_level(options.cpu_level));
  const int n_threads = options.n_threads > 0 ? options.n_threads : default_thread_count();
  NW_ASSIGN(const Pin pin, find_pin(options.pin));
  return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(
      n_threads, level, options.exact_products, seats(usable_cpus(), n_threads, cpu_quota(), pin)));
}

}  // namespace narwhal
