// Whole pages, which Metal takes as they are; and a Metal backend for tests that pass the addresses
// of vectors: each launch has those within the arena replaced by what the GPU calls them, and waits
// for its end.
#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "arena.h"
#include "backend/gpu/kernel_ops.h"
#include "backend/metal/metal_backend.h"
#include "base/check.h"
#include "devices.h"

namespace narwhal {

// The low halves of its addresses are numbers that no int and no float of a test is: a word of a
// kernel's arguments may be such a number beside padding that still holds the high half of an
// address.
ArenaMemory open_arena() {
  constexpr size_t kBytes = size_t{256} << 20, kReserved = size_t{8} << 30;
  constexpr uintptr_t kLow = 0x60000000;  // as a float 3.7e19
#ifdef NARWHAL_FAKE_METAL
  const int flags = MAP_SHARED | MAP_ANONYMOUS;  // so that it can be mapped twice
#else
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#endif
  void* const all = mmap(nullptr, kReserved, PROT_NONE, flags | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return {};
  const uintptr_t before = (kLow - reinterpret_cast<uintptr_t>(all)) & 0xffffffff;
  auto* const arena = static_cast<char*>(all) + before;
  if (before > 0) munmap(all, before);
  munmap(arena + kBytes, kReserved - before - kBytes);
  return mprotect(arena, kBytes, PROT_READ | PROT_WRITE) == 0 ? ArenaMemory{arena, kBytes}
                                                              : ArenaMemory{};
}

namespace {

class TranslatingQueue : public gpu::Queue {
 public:
  TranslatingQueue(gpu::Queue& queue, const std::byte* device) : queue_(queue), device_(device) {}

  // Pointers are words of eight bytes; open_arena sees to it that nothing else looks like one.
  void launch(gpu::KernelId id, const void* kernel, int64_t n_bytes, int64_t n_groups,
              int n_threads) override {
    std::vector<uint64_t> words((n_bytes + 7) / 8);
    std::memcpy(words.data(), kernel, n_bytes);
    const ArenaMemory arena = arena_memory();
    const auto begin = reinterpret_cast<uint64_t>(arena.begin);
    for (uint64_t& w : words)
      if (w >= begin && w < begin + arena.n_bytes)
        w = reinterpret_cast<uint64_t>(device_) + (w - begin);
    queue_.launch(id, words.data(), n_bytes, n_groups, n_threads);
    queue_.sync();
  }
  void sync() override { queue_.sync(); }
  int n_multiprocessors() const override { return queue_.n_multiprocessors(); }
  int64_t shared_bytes() const override { return queue_.shared_bytes(); }
  int tile_tokens(bool few) const override { return queue_.tile_tokens(few); }

 private:
  gpu::Queue& queue_;
  const std::byte* device_;  // the arena there
};

class HostPointerBackend : public Backend {
 public:
  HostPointerBackend(std::unique_ptr<Backend> metal, const BackendOptions& options)
      : metal_(std::move(metal)),
        parts_(metal_parts(*metal_)),
        arena_(parts_.memory.map(reinterpret_cast<const std::byte*>(arena_memory().begin),
                                 static_cast<int64_t>(arena_memory().n_bytes))),
        queue_(parts_.queue, arena_),
        ops_(queue_, options.exact_products) {
    NW_CHECK(arena_, "Metal does not take the arena");
  }
  ~HostPointerBackend() override {
    metal_->release(scratch_, 0);
    parts_.memory.unmap(arena_);
  }

  std::string_view name() const override { return metal_->name(); }
  std::string description() const override { return metal_->description(); }
  Ops& ops() override { return ops_; }
  Status prepare(const StepLimits& limits) override {
    metal_->release(scratch_, 0);
    NW_ASSIGN(scratch_, metal_->allocate(metal_->scratch_bytes(limits)));
    gpu::Scratch scratch;
    gpu::KernelOps::place(limits, scratch_, scratch);
    ops_.prepare(limits, scratch);
    return ok_status();
  }
  Result<std::byte*> allocate(int64_t n_bytes) override { return metal_->allocate(n_bytes); }
  void release(std::byte* memory, int64_t n_bytes) override { metal_->release(memory, n_bytes); }
  bool is_host() const override { return false; }
  void copy_in(void* device, const void* host, int64_t n) override {
    metal_->copy_in(device, host, n);
  }
  void copy_out(void* host, const void* device, int64_t n) override {
    metal_->copy_out(host, device, n);
  }
  void copy_device(void* to, const void* from, int64_t n) override {
    metal_->copy_device(to, from, n);
  }
  Result<Weight> adopt(const Weight& w, Placement where) override {
    return metal_->adopt(w, where);
  }
  int preferred_chunk() const override { return metal_->preferred_chunk(); }

 private:
  std::unique_ptr<Backend> metal_;
  MetalParts parts_;
  const std::byte* arena_;
  TranslatingQueue queue_;
  gpu::KernelOps ops_;
  std::byte* scratch_ = nullptr;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_test_backend(const std::string& name,
                                                   const BackendOptions& options) {
  NW_ASSIGN(auto backend, make_backend(name, options));
  if (name != "metal") return backend;
  return std::unique_ptr<Backend>(
      std::make_unique<HostPointerBackend>(std::move(backend), options));
}

}  // namespace narwhal
