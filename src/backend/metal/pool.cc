#include "backend/metal/pool.h"

#include <cstring>

#include "base/check.h"

namespace narwhal::metal {

Pool::~Pool() {
  for (const auto& [address, buffer] : buffers_by_address_) buffers_.drop(buffer.region);
}

std::byte* Pool::make(int64_t n_bytes) {
  const Region region = buffers_.make(n_bytes);
  if (region.n_bytes == 0) return nullptr;
  buffers_by_address_[region.device] = {region, 0, 0};
  return region.device;
}

std::byte* Pool::allocate(int64_t n_bytes) {
  NW_CHECK(n_bytes > 0, "{} bytes", n_bytes);
  if (n_bytes > kSmallBytes) {
    std::byte* const device = make(n_bytes);
    if (device) buffers_by_address_[device].n_live = 1;
    return device;
  }
  const int64_t taken = (n_bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (!slab_ || buffers_by_address_[slab_].used + taken > kSlabBytes) {
    std::byte* const fresh = make(kSlabBytes);
    if (!fresh) return nullptr;
    slab_ = fresh;
  }
  Buffer& slab = buffers_by_address_[slab_];
  std::memset(slab.region.host + slab.used, 0, taken);  // others may have had these bytes
  std::byte* const device = slab.region.device + slab.used;
  slab.used += taken;
  slab.n_live++;
  return device;
}

Pool::Map::const_iterator Pool::find(const std::byte* device) const {
  auto after = buffers_by_address_.upper_bound(device);
  if (after == buffers_by_address_.begin()) return buffers_by_address_.end();
  --after;
  const Region& region = after->second.region;
  return device < region.device + region.n_bytes ? after : buffers_by_address_.end();
}

void Pool::release(std::byte* device) {
  const auto found = find(device);
  NW_CHECK(found != buffers_by_address_.end(), "release of {}", static_cast<void*>(device));
  const Region region = found->second.region;
  Buffer& buffer = buffers_by_address_[region.device];
  NW_CHECK(buffer.n_live > 0, "release of {} twice", static_cast<void*>(device));
  if (--buffer.n_live > 0) return;
  if (region.device == slab_) {
    buffer.used = 0;
    return;
  }
  buffers_by_address_.erase(region.device);
  buffers_.drop(region);
}

std::byte* Pool::host_of(const void* device, int64_t n_bytes) const {
  const auto* const at = static_cast<const std::byte*>(device);
  const auto found = find(at);
  NW_CHECK(found != buffers_by_address_.end(), "{} is not device memory", device);
  const Region& region = found->second.region;
  const int64_t offset = at - region.device;
  NW_CHECK(offset + n_bytes <= region.n_bytes, "{} bytes at {} of a buffer of {}", n_bytes, offset,
           region.n_bytes);
  return region.host + offset;
}

Window window_of(const std::byte* host, int64_t n_bytes, int64_t page_bytes) {
  const auto offset =
      static_cast<int64_t>(reinterpret_cast<uintptr_t>(host) % static_cast<uintptr_t>(page_bytes));
  const int64_t n_pages = (offset + n_bytes + page_bytes - 1) / page_bytes;
  return {const_cast<std::byte*>(host) - offset, n_pages * page_bytes, offset};
}

}  // namespace narwhal::metal
