#include "backend/metal/metal_queue.h"

#include "base/check.h"

namespace narwhal::metal {
namespace {

void name(id<MTLComputeCommandEncoder> encoder, const std::vector<id<MTLResource>>& resources,
          MTLResourceUsage usage) {
  if (!resources.empty())
    [encoder useResources:resources.data() count:resources.size() usage:usage];
}

}  // namespace

Status Queue::open(id<MTLDevice> device) {
  queue_ = Ref<id<MTLCommandQueue>>([device newCommandQueue]);
  fence_ = Ref<id<MTLFence>>([device newFence]);
  return queue_ && fence_ ? ok_status()
                          : failed("the GPU gives no command queue; use --backend cpu");
}

Queue::~Queue() { Queue::sync(); }

void Queue::begin() {
  buffer_ = Ref<id<MTLCommandBuffer>>::shared([queue_.get() commandBuffer]);
  NW_CHECK(buffer_, "the GPU gives no command buffer");
  encoder_ = Ref<id<MTLComputeCommandEncoder>>::shared(
      [buffer_.get() computeCommandEncoderWithDispatchType:MTLDispatchTypeSerial]);
  NW_CHECK(encoder_, "the GPU gives no encoder");
  if (fenced_) [encoder_.get() waitForFence:fence_.get()];
  name(encoder_.get(), memory_.buffers(), MTLResourceUsageRead | MTLResourceUsageWrite);
  name(encoder_.get(), memory_.windows(), MTLResourceUsageRead);
  version_ = memory_.version();
  n_launches_ = 0;
}

void Queue::commit() {
  if (!encoder_) return;
  [encoder_.get() updateFence:fence_.get()];
  fenced_ = true;
  [encoder_.get() endEncoding];
  [buffer_.get() commit];
  encoder_ = {};
  in_flight_.push_back(std::move(buffer_));
  buffer_ = {};
  n_commits_++;
  if (in_flight_.size() > kMostInFlight) finish_oldest();
}

void Queue::finish_oldest() {
  const Ref<id<MTLCommandBuffer>> oldest = std::move(in_flight_.front());
  in_flight_.pop_front();
  [oldest.get() waitUntilCompleted];
  NW_CHECK([oldest.get() status] == MTLCommandBufferStatusCompleted, "the GPU failed: {}",
           text_of([oldest.get() error]));
}

void Queue::launch(gpu::KernelId id, const void* kernel, int64_t n_bytes, int64_t n_groups,
                   int n_threads) {
  @autoreleasepool {
    if (encoder_ && version_ != memory_.version()) commit();
    if (!encoder_) begin();
    [encoder_.get() setComputePipelineState:library_.pipeline(id)];
    [encoder_.get() setBytes:kernel length:static_cast<NSUInteger>(n_bytes) atIndex:0];
    [encoder_.get() dispatchThreadgroups:MTLSizeMake(static_cast<NSUInteger>(n_groups), 1, 1)
                   threadsPerThreadgroup:MTLSizeMake(static_cast<NSUInteger>(n_threads), 1, 1)];
    if (++n_launches_ >= (n_commits_ == 0 ? kFirstLaunches : kLaunches)) commit();
  }
}

void Queue::sync() {
  @autoreleasepool {
    commit();
    while (!in_flight_.empty()) finish_oldest();
    n_commits_ = 0;
  }
}

}  // namespace narwhal::metal
