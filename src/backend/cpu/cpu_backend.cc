#include <fmt/format.h>

#include "backend/cpu/cpu_ops.h"
#include "backend/host_backend.h"

namespace narwhal {
namespace {

class CpuBackend : public HostBackend {
 public:
  explicit CpuBackend(int n_threads) : ops_(n_threads) {}
  std::string_view name() const override { return "cpu"; }
  std::string description() const override {
    return fmt::format("CPU, {} threads", ops_.n_threads());
  }
  Ops& ops() override { return ops_; }
  Status prepare(const StepLimits& limits) override {
    ops_.prepare(limits);
    return ok_status();
  }
  int preferred_chunk() const override { return 256; }

 private:
  CpuOps ops_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  return std::make_unique<CpuBackend>(options.n_threads > 0 ? options.n_threads
                                                            : default_thread_count());
}

}  // namespace narwhal
