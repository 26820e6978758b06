// Pool: device memory in whole buffers and, for what is small, in pieces of larger ones; and the
// way from a device address to the host's view of the same bytes.
//
// A GPU of Apple shares the machine's memory but has addresses of its own: kernels get those, the
// host writes and reads through the others. Every buffer costs time at every command buffer that
// may touch it, so that a thousand small weights must not be a thousand buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace narwhal::metal {

// A buffer as both sides see it. n_bytes 0: none.
struct Region {
  std::byte* device = nullptr;
  std::byte* host = nullptr;
  int64_t n_bytes = 0;
};

// Where buffers come from.
class Buffers {
 public:
  virtual ~Buffers() = default;
  virtual Region make(int64_t n_bytes) = 0;  // zero-filled; none when the device refuses
  virtual void drop(const Region& region) = 0;
};

class Pool {
 public:
  static constexpr int64_t kSlabBytes = int64_t{8} << 20;
  static constexpr int64_t kSmallBytes = int64_t{1} << 20;  // up to this size: a piece of a slab
  static constexpr int64_t kAlignment = 256;

  explicit Pool(Buffers& buffers) : buffers_(buffers) {}
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // The device's address of n_bytes > 0 zeros; null when there is no memory.
  std::byte* allocate(int64_t n_bytes);
  // What allocate() gave, once. The device must be done with it.
  void release(std::byte* device);

  // The host's view of n_bytes at a device address; aborts where they are not of one buffer.
  std::byte* host_of(const void* device, int64_t n_bytes) const;
  int n_buffers() const { return static_cast<int>(buffers_by_address_.size()); }

 private:
  struct Buffer {
    Region region;
    int64_t used = 0;  // bytes handed out
    int n_live = 0;    // pieces
  };
  using Map = std::map<const std::byte*, Buffer>;
  Map::const_iterator find(const std::byte* device) const;  // end() where no buffer holds it
  std::byte* make(int64_t n_bytes);

  Buffers& buffers_;
  Map buffers_by_address_;
  std::byte* slab_ = nullptr;  // the one that pieces come from
};

// The pages that hold [host, host + n_bytes).
struct Window {
  std::byte* begin;
  int64_t n_bytes, offset;  // of `host` within
};
Window window_of(const std::byte* host, int64_t n_bytes, int64_t page_bytes);

}  // namespace narwhal::metal
