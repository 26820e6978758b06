#include "backend/gpu/adopted.h"

#include <algorithm>

#include "backend/gpu/packed.h"

namespace narwhal::gpu {
namespace {

constexpr int64_t kSlabAlignment = 256;
constexpr int64_t kPlaces = 2;  // of ranges: one is packed while the next comes (Upload)

// Plain values have one plane: as they are stored they are packed.
bool is_packed_as_stored(const Weight& w) {
  return block_elements(w.type) == 1 && (w.n_experts == 1 || w.matrix_bytes() % 16 == 0);
}

// Kernels read 16 bytes at a time.
bool is_aligned(const std::byte* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace

AdoptedWeights::~AdoptedWeights() {
  if (is_loading_) {  // nobody finished it: nothing may be on its way to what goes now
    host_.finish_uploads();
    queue_.sync();
  }
  for (const auto& [key, copy] : copies_) {
    if (copy.mapped) {
      queue_.sync();
      host_.unmap(copy.mapped);
    } else if (copy.where == Placement::kHost) {
      host_.release_host(copy.memory, copy.n_bytes);
    } else if (!copy.in_slab) {
      backend_.release(copy.memory, copy.n_bytes);
    }
  }
  for (const Slab& slab : slabs_) backend_.release(slab.memory, slab.n_bytes);
  backend_.release(staging_, staging_bytes_);
}

void AdoptedWeights::finish() {
  is_loading_ = false;
  host_.finish_uploads();
  queue_.sync();
  backend_.release(staging_, staging_bytes_);
  staging_ = nullptr;
  staging_bytes_ = 0;
}

Result<Weight> AdoptedWeights::adopt(const Weight& w, Placement where) {
  if (!w) return w;
  Weight out = w;
  const Key key{w.data, w.type, w.n_in, w.n_out, w.n_experts};
  if (const auto found = copies_.find(key); found != copies_.end()) {
    out.data = found->second.mapped ? found->second.mapped : found->second.memory;
    return out;
  }
  if (is_packed_as_stored(w) && is_aligned(w.data))
    if (const std::byte* const mapped = host_.map(w.data, w.n_bytes())) {
      copies_.emplace(key, Copy{nullptr, 0, where, mapped});
      out.data = mapped;
      return out;
    }
  NW_ASSIGN(const Copy copy, place(is_packed(w.type) ? packed_bytes(w) : w.n_bytes(), where));
  copies_.emplace(key, copy);
  NW_TRY(fill(w, copy.memory));
  out.data = copy.memory;
  return out;
}

Result<AdoptedWeights::Copy> AdoptedWeights::place(int64_t n_bytes, Placement where) {
  Copy copy{nullptr, n_bytes, where};
  if (where == Placement::kHost) {
    NW_ASSIGN(copy.memory, host_.allocate_host(n_bytes));
    return copy;
  }
  if (n_bytes > host_.slab_bytes() / 2) {
    NW_ASSIGN(copy.memory, backend_.allocate_unset(n_bytes));
    return copy;
  }
  copy.in_slab = true;
  const int64_t size = (n_bytes + kSlabAlignment - 1) / kSlabAlignment * kSlabAlignment;
  auto slab = std::find_if(slabs_.begin(), slabs_.end(),
                           [&](const Slab& s) { return s.n_bytes - s.used >= size; });
  if (slab == slabs_.end()) {
    NW_ASSIGN(std::byte* const memory, backend_.allocate_unset(host_.slab_bytes()));
    slab = slabs_.insert(slab, {memory, host_.slab_bytes(), 0});
  }
  copy.memory = slab->memory + slab->used;
  slab->used += size;
  return copy;
}

Status AdoptedWeights::fill(const Weight& w, std::byte* device) {
  if (is_packed_as_stored(w)) {
    const auto to = [device](int64_t at) { return device + at; };
    // Of the small ones of a model there are many: one copy at a time, they would hold up all.
    if (!is_loading_ || !upload({w.data, w.n_bytes(), w.n_bytes(), to, {}}))
      backend_.copy_in(device, w.data, w.n_bytes());
    return ok_status();
  }
  if (const std::byte* const mapped = host_.map(w.data, w.n_bytes())) {
    pack(w, mapped, device);
    return ok_status();
  }
  return pack_staged(w, device);
}

bool AdoptedWeights::upload(const Upload& upload) {
  if (!host_.upload(upload)) return false;
  if (!is_loading_) host_.finish_uploads();
  return true;
}

void AdoptedWeights::pack(const Weight& w, const std::byte* mapped, std::byte* device) {
  repack(queue_, w, mapped, 0, w.n_bytes() / dtype_info(w.type).block_bytes, device);
  queue_.sync();
  host_.unmap(mapped);
}

Status AdoptedWeights::reserve_staging(int64_t n_bytes) {
  if (staging_bytes_ >= n_bytes) return ok_status();
  backend_.release(staging_, staging_bytes_);
  staging_ = nullptr;
  staging_bytes_ = 0;
  NW_ASSIGN(staging_, backend_.allocate_unset(n_bytes));
  staging_bytes_ = n_bytes;
  return ok_status();
}

Status AdoptedWeights::pack_staged(const Weight& w, std::byte* device) {
  const int64_t block_bytes = dtype_info(w.type).block_bytes;
  const int64_t place_bytes = host_.most_staging() / kPlaces;
  const int64_t most = std::max<int64_t>(place_bytes / block_bytes, 1) * block_bytes;
  // While a model is loaded the area is in use by the weight before: it cannot grow then.
  NW_TRY(reserve_staging(is_loading_ ? host_.most_staging()
                                     : std::min(w.n_bytes(), most) + (kPlaces - 1) * place_bytes));
  const int64_t first = n_ranges_;
  n_ranges_ += (w.n_bytes() + most - 1) / most;
  const auto to = [this, first, most, place_bytes](int64_t at) {
    return staging_ + (first + at / most) % kPlaces * place_bytes + at % most;
  };
  const auto repack_range = [this, w, device, block_bytes, most, to](int64_t end) {
    const int64_t begin = (end - 1) / most * most;
    repack(queue_, w, to(begin), begin / block_bytes, (end - begin) / block_bytes, device);
  };
  if (upload({w.data, w.n_bytes(), most, to, repack_range})) return ok_status();
  for (int64_t at = 0; at < w.n_bytes(); at += most) {
    const int64_t end = std::min(at + most, w.n_bytes());
    backend_.copy_in(to(at), w.data + at, end - at);
    repack_range(end);
  }
  return ok_status();
}

}  // namespace narwhal::gpu
