#include "backend/metal/metal_backend.h"

#include <fmt/format.h>

#include <cstring>

#include "backend/gpu/adopted.h"
#include "backend/gpu/kernel_ops.h"
#include "backend/metal/metal_library.h"
#include "backend/metal/metal_memory.h"
#include "backend/metal/metal_queue.h"

namespace narwhal {
namespace {

using metal::Ref;
using Device = Ref<id<MTLDevice>>;

Result<Device> find_device() {
  const NSOperatingSystemVersion os = [[NSProcessInfo processInfo] operatingSystemVersion];
  if (os.majorVersion < 14)
    return failed(fmt::format("macOS {}.{}, expected 14 or later; use --backend cpu",
                              os.majorVersion, os.minorVersion));
  Device device(MTLCreateSystemDefaultDevice());
  if (!device) return failed("no GPU found; use --backend cpu");
  if (![device.get() supportsFamily:MTLGPUFamilyApple7] ||
      ![device.get() supportsFamily:MTLGPUFamilyMetal3] || ![device.get() hasUnifiedMemory])
    return failed(fmt::format("the GPU is {}, expected one of Apple (M1 or later); use "
                              "--backend cpu",
                              metal::text_of([device.get() name])));
  return device;
}

class MetalBackend : public Backend {
 public:
  MetalBackend(Device device, bool exact)
      : device_(std::move(device)),
        memory_(device_.get()),
        queue_(library_, memory_),
        ops_(queue_, exact),
        adopted_(*this, memory_, queue_) {}
  ~MetalBackend() override { MetalBackend::release(scratch_, 0); }

  Status open() {
    NW_TRY(library_.open(device_.get(), metal::kernel_text()));
    return queue_.open(device_.get());
  }

  std::string_view name() const override { return "metal"; }
  std::string description() const override {
    @autoreleasepool {
      return fmt::format(
          "{}, {:.0f} GiB for the GPU", metal::text_of([device_.get() name]),
          static_cast<double>([device_.get() recommendedMaxWorkingSetSize]) / (1 << 30));
    }
  }
  Ops& ops() override { return ops_; }

  Status prepare(const StepLimits& limits) override {
    NW_TRY(gpu::KernelOps::check(limits));
    release(scratch_, 0);
    scratch_ = nullptr;
    NW_ASSIGN(scratch_, allocate(scratch_bytes(limits)));
    gpu::Scratch scratch;
    gpu::KernelOps::place(limits, scratch_, scratch);
    ops_.prepare(limits, scratch);
    return ok_status();
  }
  int64_t scratch_bytes(const StepLimits& limits) const override {
    gpu::Scratch scratch;
    return gpu::KernelOps::place(limits, nullptr, scratch);
  }

  Result<std::byte*> allocate(int64_t n_bytes) override {
    @autoreleasepool {
      return memory_.allocate(n_bytes);
    }
  }
  void release(std::byte* memory, int64_t) override {
    if (!memory) return;
    queue_.sync();
    memory_.release(memory);
  }
  bool is_host() const override { return false; }

  // The GPU sees the same bytes; what it still has to do with them comes first.
  void copy_in(void* device, const void* host, int64_t n) override {
    if (n == 0) return;
    queue_.sync();
    std::memcpy(memory_.host_of(device, n), host, static_cast<size_t>(n));
  }
  void copy_out(void* host, const void* device, int64_t n) override {
    if (n == 0) return;
    queue_.sync();
    std::memcpy(host, memory_.host_of(device, n), static_cast<size_t>(n));
  }
  void copy_device(void* to, const void* from, int64_t n) override {
    if (n == 0) return;
    queue_.sync();
    std::memcpy(memory_.host_of(to, n), memory_.host_of(from, n), static_cast<size_t>(n));
  }

  Result<Weight> adopt(const Weight& w, Placement where) override {
    @autoreleasepool {
      return adopted_.adopt(w, where);
    }
  }
  void finish_loading() override {
    @autoreleasepool {
      adopted_.finish();
    }
  }
  std::optional<uint64_t> device_memory() const override {
    const uint64_t most = [device_.get() recommendedMaxWorkingSetSize],
                   used = [device_.get() currentAllocatedSize];
    return most > used ? most - used : 0;
  }
  // Short enough that a command buffer of a small GPU stays far below a second.
  int preferred_chunk() const override { return 512; }

  MetalParts parts() { return {queue_, memory_}; }

 private:
  Device device_;
  metal::Library library_;
  metal::Memory memory_;
  metal::Queue queue_;
  gpu::KernelOps ops_;
  gpu::AdoptedWeights adopted_;
  std::byte* scratch_ = nullptr;
};

}  // namespace

MetalParts metal_parts(Backend& backend) { return static_cast<MetalBackend&>(backend).parts(); }

bool metal_available() {
  @autoreleasepool {
    return find_device().ok();
  }
}

Result<std::unique_ptr<Backend>> make_metal_backend(const BackendOptions& options) {
  @autoreleasepool {
    NW_ASSIGN(Device device, find_device());
    auto backend = std::make_unique<MetalBackend>(std::move(device), options.exact_products);
    NW_TRY(backend->open());
    return std::unique_ptr<Backend>(std::move(backend));
  }
}

}  // namespace narwhal
