#include "backend/cuda/cuda_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "backend/cuda/kernel_table.h"
#include "base/check.h"

namespace narwhal::cuda {
namespace {

constexpr int kRecordedRows = 32;  // larger steps spend their time in kernels, not between them
constexpr size_t kMostGraphs = 256;

void check(cudaError_t e, const char* what) {
  NW_CHECK(e == cudaSuccess, "the GPU failed ({}): {}", what, cudaGetErrorString(e));
}

const kernels::KernelHandle& kernel_of(int i) {
  if (i < kernels::n_matrix_kernels) return kernels::matrix_kernels[i];
  i -= kernels::n_matrix_kernels;
  if (i < kernels::n_dot_kernels) return kernels::dot_kernels[i];
  i -= kernels::n_dot_kernels;
  if (i < kernels::n_tile_kernels) return kernels::tile_kernels[i];
  return kernels::other_kernels[i - kernels::n_tile_kernels];
}

// More shared memory than every kernel may have must be asked for; gives what a group can get.
cudaError_t allow_shared_memory(int* most) {
#if defined(NARWHAL_HIP)
  return hipDeviceGetAttribute(most, hipDeviceAttributeMaxSharedMemoryPerBlock, 0);
#else
  constexpr int kAlways = 48 << 10;
  cudaError_t e = cudaDeviceGetAttribute(most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
  const int n = kernels::n_matrix_kernels + kernels::n_dot_kernels + kernels::n_tile_kernels +
                kernels::n_other_kernels;
  for (int i = 0; i < n && e == cudaSuccess; i++) {
    const kernels::KernelHandle& k = kernel_of(i);
    if (k.shared_bytes > kAlways && k.shared_bytes <= *most)
      e = cudaFuncSetAttribute(k.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               k.shared_bytes);
  }
  return e;
#endif
}

}  // namespace

Status Stream::open() {
  const auto refuse = [](cudaError_t e) {
    return failed(
        fmt::format("the GPU cannot be used: {}; use --backend cpu", cudaGetErrorString(e)));
  };
  cudaError_t e = cudaSuccess;
  for (cudaStream_t* stream : {&stream_, &uploads_})
    if (e == cudaSuccess) e = cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
  if (e == cudaSuccess)
    e = cudaDeviceGetAttribute(&n_multiprocessors_, cudaDevAttrMultiProcessorCount, 0);
#if !defined(NARWHAL_HIP)
  cudaFuncAttributes code{};
  if (e == cudaSuccess) e = cudaFuncGetAttributes(&code, kernel_of(0).function);
  can_overlap_ = code.ptxVersion >= 90;  // await_results is empty in code for earlier chips
#endif
  if (e == cudaSuccess)
    e = cudaHostAlloc(reinterpret_cast<void**>(&pinned_), kSlots * kSlotBytes + kOutBytes,
                      cudaHostAllocDefault);
  if (e == cudaSuccess) e = allow_shared_memory(&shared_bytes_);
  const auto create = [&](cudaEvent_t& event) {
    if (e == cudaSuccess) e = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  };
  for (cudaEvent_t& event : free_) create(event);
  create(sent_);
  create(used_);
  return e == cudaSuccess ? ok_status() : refuse(e);
}

Stream::~Stream() {
  staging_.stop();  // it fills what is freed here
  for (const Graph& g : graphs_)
    if (g.exec) cudaGraphExecDestroy(g.exec);
  for (cudaEvent_t event : free_)
    if (event) cudaEventDestroy(event);
  for (cudaEvent_t event : {sent_, used_})
    if (event) cudaEventDestroy(event);
  if (pinned_) cudaFreeHost(pinned_);
  for (cudaStream_t stream : {stream_, uploads_})
    if (stream) cudaStreamDestroy(stream);
}

void Stream::launch(gpu::KernelId id, const void* kernel, int64_t, int64_t n_groups,
                    int n_threads) {
  void* arguments[] = {const_cast<void*>(kernel)};
  const kernels::KernelHandle& handle = kernel_of(static_cast<int>(id));
  const dim3 grid(static_cast<unsigned>(n_groups)), block(static_cast<unsigned>(n_threads));
#if defined(NARWHAL_HIP)
  const cudaError_t e =
      cudaLaunchKernel(handle.function, grid, block, arguments, handle.shared_bytes, stream_);
#else
  // Its groups may come before the launch in front is done; they wait for it (await_results), but
  // not before they read weights.
  const bool comes_early = can_overlap_ && !wrote_weights_;
  wrote_weights_ = id == gpu::KernelId::k_repack;
  cudaLaunchAttribute early;
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  const cudaLaunchConfig_t config{grid,    block,  static_cast<size_t>(handle.shared_bytes),
                                  stream_, &early, comes_early ? 1u : 0u};
  const cudaError_t e = cudaLaunchKernelExC(&config, handle.function, arguments);
#endif
  check(e, gpu::kKernelNames[static_cast<int>(id)]);
}

void Stream::sync() {
  finish_uploads();
  check(cudaStreamSynchronize(stream_), "sync");
}

void Stream::leave_slot() {
  if (slot_used_ == 0) return;
  check(cudaEventRecord(free_[slot_], stream_), "record");
  slot_ = (slot_ + 1) % kSlots;
  slot_used_ = 0;
}

// Pieces share a slot until it is full; then the next slot is waited for.
void Stream::copy_piece(void* device, const void* host, int64_t n_bytes) {
  const int64_t rounded = (n_bytes + 255) / 256 * 256;
  if (slot_used_ + rounded > kSlotBytes) leave_slot();
  if (slot_used_ == 0) check(cudaEventSynchronize(free_[slot_]), "copy to the GPU");
  std::byte* piece = pinned_ + slot_ * kSlotBytes + slot_used_;
  slot_used_ += rounded;
  std::memcpy(piece, host, n_bytes);
  // Default: weights that stay on the host are written here, too.
  check(cudaMemcpyAsync(device, piece, n_bytes, cudaMemcpyDefault, stream_), "copy to the GPU");
}

void Stream::copy_in(void* device, const void* host, int64_t n_bytes) {
  auto* const to = static_cast<std::byte*>(device);
  const auto* const from = static_cast<const std::byte*>(host);
  finish_uploads();
  if (n_bytes >= kStagedBytes) {
    upload({from, n_bytes, n_bytes, [to](int64_t at) { return to + at; }, {}});
    finish_uploads();
  } else if (n_bytes > 0) {
    copy_piece(to, from, n_bytes);
  }
}

void Stream::order(cudaStream_t ahead, cudaStream_t behind, cudaEvent_t event) {
  check(cudaEventRecord(event, ahead), "record");
  check(cudaStreamWaitEvent(behind, event, 0), "order of copies");
}

void Stream::upload(gpu::Upload upload) {
  leave_slot();
  if (!is_uploading_) order(stream_, uploads_, used_);
  is_uploading_ = true;
  if (upload.sent)
    upload.sent = [this, use = std::move(upload.sent)](int64_t end) {
      order(uploads_, stream_, sent_);
      check(cudaStreamWaitEvent(uploads_, used_, 0), "order of copies");
      use(end);
      check(cudaEventRecord(used_, stream_), "record");
    };
  staging_.start(std::move(upload));
}

void Stream::finish_uploads() {
  staging_.finish();
  if (std::exchange(is_uploading_, false)) order(uploads_, stream_, sent_);
}

void Stream::UploadBus::wait(int i) {
  check(cudaEventSynchronize(stream_.free_[i]), "copy to the GPU");
}

void Stream::UploadBus::send(int i, std::byte* to, int64_t n_bytes) {
  check(cudaMemcpyAsync(to, slot(i), n_bytes, cudaMemcpyDefault, stream_.uploads_),
        "copy to the GPU");
  check(cudaEventRecord(stream_.free_[i], stream_.uploads_), "record");
}

// The best of some rounds of copies of n_bytes each; the first round wakes the device up. In 10^9
// bytes a second.
double Stream::copy_rate(void* to, const void* from, int64_t n_bytes) {
  constexpr int kRounds = 4, kCopies = 8;
  double best = 0;
  for (int round = 0; round < kRounds; round++) {
    sync();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCopies; i++)
      check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDefault, stream_), "copy");
    sync();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::max(best, 1e-9 * kCopies * static_cast<double>(n_bytes) / took.count());
  }
  return best;
}

double Stream::measure_bus() {
  constexpr int64_t kBytes = kSlots * kSlotBytes;
  void* device = nullptr;
  if (cudaMalloc(&device, kBytes) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  const double rate = copy_rate(device, pinned_, kBytes);
  cudaFree(device);
  return rate;
}

double Stream::measure_memory() {
  constexpr int64_t kBytes = int64_t{1} << 30;  // far beyond any cache
  std::byte* device = nullptr;
  if (cudaMalloc(reinterpret_cast<void**>(&device), 2 * kBytes) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  const double rate = 2 * copy_rate(device, device + kBytes, kBytes);
  cudaFree(device);
  return rate;
}

void Stream::copy_out(void* host, const void* device, int64_t n_bytes) {
  if (n_bytes == 0) return;
  finish_uploads();
  // Memory that is not pinned is copied by way of the driver's, with a wait of its own.
  const bool fits = n_bytes <= kOutBytes;
  std::byte* const out = pinned_ + kSlots * kSlotBytes;
  check(cudaMemcpyAsync(fits ? out : host, device, n_bytes, cudaMemcpyDeviceToHost, stream_),
        "copy from the GPU");
  sync();
  if (fits) std::memcpy(host, out, n_bytes);
}

void Stream::copy_device(void* to, const void* from, int64_t n_bytes) {
  check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, stream_), "copy on the GPU");
}

cudaGraphExec_t Stream::record(const std::function<void()>& step) {
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "begin recording");
  step();
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream_, &graph), "end recording");
  cudaGraphExec_t exec = nullptr;
  check(cudaGraphInstantiate(&exec, graph, 0), "instantiate a recording");
  check(cudaGraphDestroy(graph), "destroy");
  return exec;
}

void Stream::run_step(const StepKey& key, const std::function<void()>& step) {
  const auto seen =
      std::find_if(graphs_.begin(), graphs_.end(), [&](const Graph& g) { return g.key == key; });
  if (seen == graphs_.end()) {
    if (key.n_rows <= kRecordedRows && graphs_.size() < kMostGraphs)
      graphs_.push_back({key, nullptr});
    return step();
  }
  if (!seen->exec) seen->exec = record(step);
  check(cudaGraphLaunch(seen->exec, stream_), "replay");
}

}  // namespace narwhal::cuda
