// The CUDA stream of a backend: launches, transfers through pinned memory, recorded steps. Much
// that comes in comes by a second stream, so that what kernels do with it meanwhile (packing
// weights) does not stand between its copies.
//
// Faults of the device are sticky; they end the process at the next wait with what CUDA says
// (after a fault the device's memory is lost, so there is nothing to go back to).
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/runtime.h"
#include "backend/gpu/adopted.h"
#include "backend/gpu/queue.h"
#include "backend/gpu/staging.h"

namespace narwhal::cuda {

class Stream : public gpu::Queue {
 public:
  // kFailed when the device cannot give what is needed.
  Status open();
  Stream() = default;
  ~Stream() override;

  void launch(gpu::KernelId id, const void* kernel, int64_t n_bytes, int64_t n_groups,
              int n_threads) override;
  int n_multiprocessors() const override { return n_multiprocessors_; }
  void sync() override;
  int64_t shared_bytes() const override { return shared_bytes_; }

  // `host` may be reused when the call returns. copy_out waits for everything before it, once. Much
  // is copied by several threads (gpu/staging.h), little by the caller's.
  void copy_in(void* device, const void* host, int64_t n_bytes);
  // The last of it is enqueued only by the next upload, or by copies and sync() above, so host
  // memory stays till then. Launches see a range when its `sent` is called, all of it after
  // finish_uploads(). The first upload after that waits for all launches before it, the next range
  // for those that came before the `sent` of the range before: two ranges in turn may use the same
  // two places.
  void upload(gpu::Upload upload);
  void finish_uploads();
  void copy_out(void* host, const void* device, int64_t n_bytes);
  void copy_device(void* to, const void* from, int64_t n_bytes);

  // 10^9 bytes a second of plain copies from pinned memory, the best of a few; 0 where the device
  // has no room to copy to.
  double measure_bus();
  double measure_memory();

  // Steps of few rows are recorded the second time they come and replayed from then on. The first
  // time runs as it is, which loads its kernels.
  void run_step(const StepKey& key, const std::function<void()>& step);
  int n_recordings() const { return static_cast<int>(graphs_.size()); }

 private:
  struct Graph {
    StepKey key;
    cudaGraphExec_t exec;  // null: seen once
  };
  // What the staging threads have filled goes on to the device.
  class UploadBus : public gpu::Staging::Bus {
   public:
    explicit UploadBus(Stream& stream) : stream_(stream) {}
    std::byte* slot(int i) override { return stream_.pinned_ + i * kSlotBytes; }
    void wait(int i) override;
    void send(int i, std::byte* to, int64_t n_bytes) override;

   private:
    Stream& stream_;
  };
  // Together less than a server's last cache, which the bus then reads from.
  static constexpr int64_t kSlotBytes = int64_t{2} << 20;
  static constexpr int kSlots = 32;
  static constexpr int64_t kStagedBytes = int64_t{1} << 20;  // from here on threads pay
  static constexpr int64_t kOutBytes = int64_t{1} << 20;     // a row of logits and more

  void copy_piece(void* device, const void* host, int64_t n_bytes);
  double copy_rate(void* to, const void* from, int64_t n_bytes);
  void leave_slot();
  // What is enqueued in `behind` from here on waits for what is in `ahead` now.
  void order(cudaStream_t ahead, cudaStream_t behind, cudaEvent_t event);
  cudaGraphExec_t record(const std::function<void()>& step);

  cudaStream_t stream_ = nullptr, uploads_ = nullptr;
  cudaEvent_t sent_ = nullptr, used_ = nullptr;  // a range; the one before it, by the launches
  bool is_uploading_ = false;                    // uploads_ may be ahead of stream_
  int n_multiprocessors_ = 1;
  std::byte* pinned_ = nullptr;  // kSlots pieces on their way in, then kOutBytes on their way out
  cudaEvent_t free_[kSlots] = {};
  int slot_ = 0;  // of small copies, which share the slots while no upload is under way
  int64_t slot_used_ = 0;
  UploadBus bus_{*this};
  gpu::Staging staging_{bus_, kSlots, kSlotBytes, gpu::Staging::threads_to_use()};
  std::vector<Graph> graphs_;
  int shared_bytes_ = 0;
  bool can_overlap_ = false;    // launches
  bool wrote_weights_ = false;  // the last one
};

}  // namespace narwhal::cuda
