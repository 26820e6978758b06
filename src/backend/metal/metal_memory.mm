#include "backend/metal/metal_memory.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/check.h"

namespace narwhal::metal {
namespace {

// Passes are ordered by a fence (metal_queue.h), so Metal need not look for hazards.
constexpr MTLResourceOptions kOptions =
    MTLResourceStorageModeShared | MTLResourceHazardTrackingModeUntracked;

}  // namespace

std::byte* Memory::keep(Ref<id<MTLBuffer>> buffer, bool window) {
  auto* const device =
      reinterpret_cast<std::byte*>([buffer.get() gpuAddress]);  // NOLINT(performance-no-int-to-ptr)
  lists_[window].push_back(buffer.get());
  owned_.emplace(device, std::move(buffer));
  version_++;
  return device;
}

void Memory::forget(const std::byte* device, bool window) {
  const auto found = owned_.find(device);
  NW_CHECK(found != owned_.end(), "no buffer at {}", static_cast<const void*>(device));
  std::erase(lists_[window], found->second.get());
  owned_.erase(found);
  version_++;
}

Region Memory::make(int64_t n_bytes) {
  if (static_cast<uint64_t>(n_bytes) > [device_ maxBufferLength]) return {};
  Ref<id<MTLBuffer>> buffer([device_ newBufferWithLength:static_cast<NSUInteger>(n_bytes)
                                                 options:kOptions]);
  if (!buffer) return {};
  auto* const host = static_cast<std::byte*>([buffer.get() contents]);
  return {keep(std::move(buffer), false), host, n_bytes};
}

void Memory::drop(const Region& region) { forget(region.device, false); }

Result<std::byte*> Memory::allocate(int64_t n_bytes) {
  if (std::byte* const device = pool_.allocate(std::max<int64_t>(n_bytes, 1))) return device;
  return no_memory(fmt::format(
      "the GPU gives no buffer of {} MiB ({} MiB at most, {} of {} MiB in use); lower --ctx",
      n_bytes >> 20, [device_ maxBufferLength] >> 20, [device_ currentAllocatedSize] >> 20,
      [device_ recommendedMaxWorkingSetSize] >> 20));
}

void Memory::release(std::byte* device) {
  if (device) pool_.release(device);
}

const std::byte* Memory::map(const std::byte* host, int64_t n_bytes) {
  if (n_bytes < kSmallestMapped) return nullptr;
  const Window window = window_of(host, n_bytes, sysconf(_SC_PAGESIZE));
  if (static_cast<uint64_t>(window.n_bytes) > [device_ maxBufferLength]) return nullptr;
  Ref<id<MTLBuffer>> buffer([device_
      newBufferWithBytesNoCopy:window.begin
                        length:static_cast<NSUInteger>(window.n_bytes)
                       options:kOptions
                   deallocator:nil]);
  if (!buffer) return nullptr;
  std::byte* const base = keep(std::move(buffer), true);
  mapped_[base + window.offset] = base;
  return base + window.offset;
}

void Memory::unmap(const std::byte* device) {
  const auto found = mapped_.find(device);
  NW_CHECK(found != mapped_.end(), "no window at {}", static_cast<const void*>(device));
  forget(found->second, true);
  mapped_.erase(found);
}

}  // namespace narwhal::metal
