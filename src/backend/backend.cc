#include "backend/backend.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>

#ifdef NARWHAL_CUDA
#include "backend/cuda/cuda_backend.h"
#endif
#include "backend/emu/emu_backend.h"
#include "backend/host_backend.h"
#ifdef NARWHAL_METAL
#include "backend/metal/metal_backend.h"
#endif
#include "ops/ref/ref_ops.h"

namespace narwhal {
namespace {

class RefBackend : public HostBackend {
 public:
  std::string_view name() const override { return "ref"; }
  std::string description() const override { return "scalar reference, 1 thread"; }
  Ops& ops() override { return ops_; }
  Status prepare(const StepLimits&) override { return ok_status(); }
  int preferred_chunk() const override { return 64; }

 private:
  RefOps ops_;
};

}  // namespace

// Untouched pages cost nothing, so a cache for a million tokens may be reserved whole.
Result<std::byte*> HostBackend::allocate(int64_t n_bytes) {
  if (n_bytes == 0) n_bytes = 1;
#ifdef MAP_NORESERVE
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
#else
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#endif
  void* p = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (p == MAP_FAILED)
    return no_memory(fmt::format("cannot reserve {} MiB; lower --ctx", n_bytes >> 20));
  return static_cast<std::byte*>(p);
}

void HostBackend::release(std::byte* memory, int64_t n_bytes) {
  if (memory) munmap(memory, n_bytes == 0 ? 1 : n_bytes);
}

std::unique_ptr<Backend> make_ref_backend() { return std::make_unique<RefBackend>(); }

std::vector<std::string> backend_names() {
  std::vector<std::string> names = {"cpu", "ref", "emu"};
#ifdef NARWHAL_CUDA
  names.insert(names.begin(), kCudaName);
#endif
#ifdef NARWHAL_METAL
  names.insert(names.begin(), "metal");
#endif
  return names;
}

Result<std::unique_ptr<Backend>> make_backend(const std::string& name,
                                              const BackendOptions& options) {
#ifdef NARWHAL_CUDA
  if (name == kCudaName || (name == "auto" && cuda_available())) return make_cuda_backend(options);
#endif
#ifdef NARWHAL_METAL
  if (name == "metal" || (name == "auto" && metal_available())) return make_metal_backend(options);
#endif
  if (name == "auto" || name == "cpu") return make_cpu_backend(options);
  if (name == "ref") return make_ref_backend();
  if (name == "emu") return make_emu_backend(options);
  return usage(fmt::format("backend \"{}\" is not in this build; choose auto, {}", name,
                           fmt::join(backend_names(), ", ")));
}

}  // namespace narwhal
