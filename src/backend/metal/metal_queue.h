// Launches as Metal takes them: compute passes in command buffers of one command queue.
//
//   order     dispatches of a pass run one after another (MTLDispatchTypeSerial); every pass waits
//             for the fence of the pass before and updates it at its end
//   start     a command buffer goes to the GPU after kFirstLaunches, then after every kLaunches, so
//             that the GPU starts while the rest is encoded, and none runs for seconds, which macOS
//             would end
//   residency every pass names all memory; kernels are given addresses, of which Metal does not
//   know faults    sticky: the next wait ends the process with what Metal says, as the memory
//   behind a
//             failed command buffer cannot be trusted
#pragma once

#import <Metal/Metal.h>

#include <cstdint>
#include <deque>

#include "backend/gpu/queue.h"
#include "backend/metal/metal_library.h"
#include "backend/metal/metal_memory.h"
#include "backend/metal/ref.h"

namespace narwhal::metal {

class Queue : public gpu::Queue {
 public:
  static constexpr int kFirstLaunches = 32, kLaunches = 128;
  static constexpr size_t kMostInFlight = 16;                  // command buffers; a queue holds 64
  static constexpr int kTileTokens = 64, kFewTileTokens = 32;  // kernels/portable_metal.h
  static constexpr int kCores = 32;  // Metal does not tell; 8 to 80 are sold

  // `library` and `memory` outlive the queue.
  Queue(const Library& library, const Memory& memory) : library_(library), memory_(memory) {}
  ~Queue() override;
  // kFailed when the device gives no queue.
  Status open(id<MTLDevice> device);

  void launch(gpu::KernelId id, const void* kernel, int64_t n_bytes, int64_t n_groups,
              int n_threads) override;
  void sync() override;
  int n_multiprocessors() const override { return kCores; }
  int tile_tokens(bool few) const override { return few ? kFewTileTokens : kTileTokens; }

 private:
  void begin();
  void commit();
  void finish_oldest();

  const Library& library_;
  const Memory& memory_;
  Ref<id<MTLCommandQueue>> queue_;
  Ref<id<MTLFence>> fence_;
  bool fenced_ = false;  // a pass has updated the fence

  // The pass being encoded, if any.
  Ref<id<MTLCommandBuffer>> buffer_;
  Ref<id<MTLComputeCommandEncoder>> encoder_;
  uint64_t version_ = 0;  // of the memory it names
  int n_launches_ = 0;    // in it
  int n_commits_ = 0;     // since the last wait
  std::deque<Ref<id<MTLCommandBuffer>>> in_flight_;
};

}  // namespace narwhal::metal
