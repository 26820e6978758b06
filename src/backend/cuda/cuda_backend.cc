#include "backend/cuda/cuda_backend.h"

#include <fmt/format.h>

#include "backend/cuda/cuda_queue.h"
#include "backend/cuda/pinned.h"
#include "backend/gpu/adopted.h"
#include "backend/gpu/kernel_ops.h"
#include "base/check.h"

namespace narwhal {
namespace {

// Memory of the device that the plan leaves alone: code of kernels, which is loaded when they are
// first used, recorded steps, ends of slabs and of pieces of 2 MiB.
constexpr size_t kReserved = size_t{256} << 20;

class CudaBackend : public Backend, public gpu::HostMemory {
 public:
  explicit CudaBackend(bool exact) : ops_(stream_, exact), adopted_(*this, *this, stream_) {}
  ~CudaBackend() override { CudaBackend::release(scratch_, scratch_bytes_); }

  Status open() {
    if (const cudaError_t e = cudaGetDeviceProperties(&device_, 0); e != cudaSuccess)
      return failed(fmt::format("the GPU cannot be used: {}", cudaGetErrorString(e)));
#if defined(NARWHAL_HIP)
    if (device_.warpSize != 32)
      return failed(fmt::format("{} has wavefronts of {}, expected 32 (RDNA); use --backend cpu",
                                device_.name, device_.warpSize));
#else
    if (device_.major < 8)
      return failed(
          fmt::format("{} has compute capability {}.{}, expected 8.0 or later; use "
                      "--backend cpu",
                      device_.name, device_.major, device_.minor));
#endif
    return stream_.open();
  }

  std::string_view name() const override { return kCudaName; }
  std::string description() const override {
    return fmt::format("{}, {:.0f} GiB, compute capability {}.{}", device_.name,
                       static_cast<double>(device_.totalGlobalMem) / (1 << 30), device_.major,
                       device_.minor);
  }
  Ops& ops() override { return ops_; }

  Status prepare(const StepLimits& limits) override {
    NW_TRY(gpu::KernelOps::check(limits));
    stream_.sync();
    release(scratch_, scratch_bytes_);
    scratch_ = nullptr;
    gpu::Scratch scratch;
    scratch_bytes_ = gpu::KernelOps::place(limits, nullptr, scratch);
    NW_ASSIGN(scratch_, allocate(scratch_bytes_));
    gpu::KernelOps::place(limits, scratch_, scratch);
    ops_.prepare(limits, scratch);
    return ok_status();
  }
  int64_t scratch_bytes(const StepLimits& limits) const override {
    gpu::Scratch scratch;
    return gpu::KernelOps::place(limits, nullptr, scratch);
  }

  Result<std::byte*> allocate(int64_t n_bytes) override {
    NW_ASSIGN(std::byte* const p, allocate_unset(n_bytes));
    NW_CHECK(cudaMemset(p, 0, std::max<int64_t>(n_bytes, 1)) == cudaSuccess,
             "cannot clear GPU memory");
    // The stream does not wait for the default one that cleared it.
    NW_CHECK(cudaDeviceSynchronize() == cudaSuccess, "cannot clear GPU memory");
    return p;
  }
  Result<std::byte*> allocate_unset(int64_t n_bytes) override {
    void* p = nullptr;
    // Kernels copy rows in 16 aligned bytes, the last of which may lie behind what was asked for.
    n_bytes = (std::max<int64_t>(n_bytes, 1) + 15) / 16 * 16;
    if (const cudaError_t e = cudaMalloc(&p, n_bytes); e != cudaSuccess) {
      cudaGetLastError();  // not sticky: an allocation may be refused
      return no_memory(fmt::format("{} MiB of GPU memory are not free ({}); lower --ctx",
                                   n_bytes >> 20, cudaGetErrorString(e)));
    }
    return static_cast<std::byte*>(p);
  }
  void release(std::byte* memory, int64_t) override {
    if (memory) cudaFree(memory);
  }
  bool is_host() const override { return false; }
  void copy_in(void* device, const void* host, int64_t n) override {
    stream_.copy_in(device, host, n);
  }
  void copy_out(void* host, const void* device, int64_t n) override {
    stream_.copy_out(host, device, n);
  }

  void copy_device(void* to, const void* from, int64_t n) override {
    stream_.copy_device(to, from, n);
  }

  Result<Weight> adopt(const Weight& w, Placement where) override {
    return adopted_.adopt(w, where);
  }
  void begin_loading() override { adopted_.begin(); }
  void finish_loading() override { adopted_.finish(); }
  double measure_bus() override { return stream_.measure_bus(); }
  double measure_memory() override { return stream_.measure_memory(); }
  bool upload(const gpu::Upload& upload) override {
    stream_.upload(upload);
    return true;
  }
  void finish_uploads() override { stream_.finish_uploads(); }
  // Pieces of 2 MiB are the least that CUDA takes: half of the 666 larger tensors of V4 Flash would
  // lose 1.5 MiB each.
  int64_t slab_bytes() const override { return int64_t{32} << 20; }
  bool reads_host_memory() const override { return true; }
  Result<std::byte*> allocate_host(int64_t n_bytes) override { return pinned_.allocate(n_bytes); }
  void release_host(std::byte* memory, int64_t) override { pinned_.release(memory); }
  std::optional<uint64_t> device_memory() const override {
    size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) return 0;
    return free - std::min(free, kReserved);
  }
  void run_step(const StepKey& key, const std::function<void()>& step) override {
    stream_.run_step(key, step);
  }
  // A row of V4 Flash takes 0.7 MB of activations and scratch: 1.4 GB for 2,048 rows, 2.8 GB for
  // 4,096, which are 96 to each expert instead of 48 and fill a matrix tile. Smaller cards keep
  // the difference for weights.
  int preferred_chunk() const override {
    return device_.totalGlobalMem >= size_t{100} << 30 ? 4096 : 2048;
  }

 private:
  cudaDeviceProp device_{};
  cuda::Stream stream_;
  cuda::PinnedMemory pinned_;
  gpu::KernelOps ops_;
  gpu::AdoptedWeights adopted_;
  std::byte* scratch_ = nullptr;
  int64_t scratch_bytes_ = 0;
};

}  // namespace

bool cuda_available() {
  int n = 0;
  const bool ok = cudaGetDeviceCount(&n) == cudaSuccess && n > 0;
  cudaGetLastError();
  return ok;
}

Result<std::unique_ptr<Backend>> make_cuda_backend(const BackendOptions& options) {
  int n = 0;
  if (const cudaError_t e = cudaGetDeviceCount(&n); e != cudaSuccess || n == 0)
    return failed(fmt::format("no GPU can be used: {}; install its driver or use --backend cpu",
                              e == cudaSuccess ? "none found" : cudaGetErrorString(e)));
  auto backend = std::make_unique<CudaBackend>(options.exact_products);
  NW_TRY(backend->open());
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace narwhal
