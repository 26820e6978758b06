#include "backend/gpu/adopted.h"

#include <algorithm>

#include "backend/gpu/packed.h"

namespace narwhal::gpu {
namespace {

constexpr int64_t kMostStaging = int64_t{64} << 20;

// Plain values have one plane: as they are stored they are packed.
bool is_packed_as_stored(const Weight& w) {
  return block_elements(w.type) == 1 && (w.n_experts == 1 || w.matrix_bytes() % 16 == 0);
}

// Kernels read 16 bytes at a time.
bool is_aligned(const std::byte* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace

AdoptedWeights::~AdoptedWeights() {
  for (const auto& [key, copy] : copies_) {
    if (copy.mapped) {
      queue_.sync();
      host_.unmap(copy.mapped);
    } else if (copy.where == Placement::kHost) {
      host_.release_host(copy.memory, copy.n_bytes);
    } else {
      backend_.release(copy.memory, copy.n_bytes);
    }
  }
  backend_.release(staging_, staging_bytes_);
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
  const int64_t n_bytes = is_packed(w.type) ? packed_bytes(w) : w.n_bytes();
  NW_ASSIGN(std::byte* const memory,
            where == Placement::kHost ? host_.allocate_host(n_bytes) : backend_.allocate(n_bytes));
  copies_.emplace(key, Copy{memory, n_bytes, where});
  NW_TRY(fill(w, memory));
  out.data = memory;
  return out;
}

Status AdoptedWeights::fill(const Weight& w, std::byte* device) {
  if (is_packed_as_stored(w)) {
    backend_.copy_in(device, w.data, w.n_bytes());
    return ok_status();
  }
  if (const std::byte* const mapped = host_.map(w.data, w.n_bytes())) {
    pack(w, mapped, device);
    return ok_status();
  }
  if (const int64_t n_bytes = std::min(w.matrix_bytes(), kMostStaging); staging_bytes_ < n_bytes) {
    backend_.release(staging_, staging_bytes_);
    staging_ = nullptr;
    staging_bytes_ = 0;
    NW_ASSIGN(staging_, backend_.allocate(n_bytes));
    staging_bytes_ = n_bytes;
  }
  for (int64_t e = 0; e < w.n_experts; e++)
    fill_matrix(w, w.expert(e).data, device + e * packed_matrix_bytes(w.type, w.n_in, w.n_out));
  return ok_status();
}

void AdoptedWeights::pack(const Weight& w, const std::byte* mapped, std::byte* device) {
  const int64_t n_blocks = w.matrix_bytes() / dtype_info(w.type).block_bytes;
  for (int64_t e = 0; e < w.n_experts; e++)
    repack(queue_, w, mapped + e * w.matrix_bytes(), 0, n_blocks,
           device + e * packed_matrix_bytes(w.type, w.n_in, w.n_out));
  queue_.sync();
  host_.unmap(mapped);
}

void AdoptedWeights::fill_matrix(const Weight& w, const std::byte* host, std::byte* device) {
  const int64_t block_bytes = dtype_info(w.type).block_bytes;
  const int64_t n_blocks = w.matrix_bytes() / block_bytes, most = staging_bytes_ / block_bytes;
  for (int64_t first = 0; first < n_blocks; first += most) {
    const int64_t n = std::min(most, n_blocks - first);
    backend_.copy_in(staging_, host + first * block_bytes, n * block_bytes);
    repack(queue_, w, staging_, first, n, device);
  }
}

}  // namespace narwhal::gpu
