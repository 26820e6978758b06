#include "backend/emu/emu_backend.h"

#include <cstring>
#include <vector>

#include "backend/emu/emu_kernels.h"
#include "backend/emu/machine.h"
#include "backend/gpu/adopted.h"
#include "backend/gpu/kernel_ops.h"
#include "backend/gpu/staging.h"
#include "backend/host_backend.h"

namespace narwhal {
namespace {

class EmuQueue : public gpu::Queue {
 public:
  void launch(gpu::KernelId id, const void* kernel, int64_t, int64_t n_groups,
              int n_threads) override {
    const emu::EmulatedKernel& e = emu::kernel_of(id);
    machine_.launch(e.body, kernel, e.shared_bytes, n_groups, n_threads);
  }
  int n_multiprocessors() const override {
    return 3;
  }  // few: small tests see both sizes of tiles, and groups with several
  void sync() override {}
  int64_t shared_bytes() const override { return int64_t{1} << 20; }

 private:
  emu::Machine machine_;
};

// Slots as on a device, small, so that weights of tests go through many; a transfer is done at
// once.
class EmuBus : public gpu::Staging::Bus {
 public:
  static constexpr int kSlots = 4;
  static constexpr int64_t kSlotBytes = int64_t{16} << 10;

  gpu::Staging& staging() { return staging_; }
  std::byte* slot(int i) override { return slots_.data() + i * kSlotBytes; }
  void wait(int) override {}
  void send(int i, std::byte* to, int64_t n_bytes) override {
    std::memcpy(to, slot(i), static_cast<size_t>(n_bytes));
  }

 private:
  std::vector<std::byte> slots_ = std::vector<std::byte>(kSlots * kSlotBytes);
  gpu::Staging staging_{*this, kSlots, kSlotBytes, 2};
};

class EmuBackend : public HostBackend, public gpu::HostMemory {
 public:
  explicit EmuBackend(bool exact) : ops_(queue_, exact), adopted_(*this, *this, queue_) {}
  ~EmuBackend() override { release(scratch_, scratch_bytes_); }

  std::string_view name() const override { return "emu"; }
  std::string description() const override { return "GPU kernels emulated on the CPU"; }
  Ops& ops() override { return ops_; }
  int preferred_chunk() const override { return 64; }
  Result<Weight> adopt(const Weight& w, Placement where) override {
    return adopted_.adopt(w, where);
  }
  void begin_loading() override { adopted_.begin(); }
  void finish_loading() override { adopted_.finish(); }
  void copy_in(void* device, const void* host, int64_t n_bytes) override {
    finish_uploads();
    HostBackend::copy_in(device, host, n_bytes);
  }
  void copy_out(void* host, const void* device, int64_t n_bytes) override {
    finish_uploads();
    HostBackend::copy_out(host, device, n_bytes);
  }
  bool reads_host_memory() const override { return true; }
  bool upload(const gpu::Upload& upload) override {
    bus_.staging().start(upload);
    return true;
  }
  void finish_uploads() override { bus_.staging().finish(); }
  int64_t slab_bytes() const override { return int64_t{64} << 10; }
  int64_t most_staging() const override { return 3 * EmuBus::kSlotBytes + 1000; }
  Result<std::byte*> allocate_host(int64_t n_bytes) override { return allocate(n_bytes); }
  void release_host(std::byte* memory, int64_t n_bytes) override { release(memory, n_bytes); }

  int64_t scratch_bytes(const StepLimits& limits) const override {
    gpu::Scratch scratch;
    return gpu::KernelOps::place(limits, nullptr, scratch);
  }
  Status prepare(const StepLimits& limits) override {
    NW_TRY(gpu::KernelOps::check(limits));
    release(scratch_, scratch_bytes_);
    gpu::Scratch scratch;
    scratch_bytes_ = gpu::KernelOps::place(limits, nullptr, scratch);
    NW_ASSIGN(scratch_, allocate(scratch_bytes_));
    gpu::KernelOps::place(limits, scratch_, scratch);
    ops_.prepare(limits, scratch);
    return ok_status();
  }

 private:
  EmuQueue queue_;
  EmuBus bus_;
  gpu::KernelOps ops_;
  gpu::AdoptedWeights adopted_;
  std::byte* scratch_ = nullptr;
  int64_t scratch_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Backend> make_emu_backend(const BackendOptions& options) {
  return std::make_unique<EmuBackend>(options.exact_products);
}

}  // namespace narwhal
