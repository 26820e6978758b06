#include "backend/gpu/adopted.h"

#include <algorithm>

#include "backend/gpu/packed.h"

namespace narwhal::gpu {
namespace {

constexpr int64_t kStagingBytes = int64_t{64} << 20;

}  // namespace

AdoptedWeights::~AdoptedWeights() {
  for (const auto& [key, copy] : copies_) {
    if (copy.where == Placement::kHost)
      host_.release_host(copy.memory, copy.n_bytes);
    else
      backend_.release(copy.memory, copy.n_bytes);
  }
  backend_.release(staging_, kStagingBytes);
}

Result<Weight> AdoptedWeights::adopt(const Weight& w, Placement where) {
  if (!w) return w;
  Weight out = w;
  const Key key{w.data, w.type, w.n_in, w.n_out, w.n_experts};
  if (const auto found = copies_.find(key); found != copies_.end()) {
    out.data = found->second.memory;
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
  // Plain values have one plane: they are in place once copied.
  if (block_elements(w.type) == 1 && (w.n_experts == 1 || w.matrix_bytes() % 16 == 0)) {
    backend_.copy_in(device, w.data, w.n_bytes());
    return ok_status();
  }
  if (!staging_) {
    NW_ASSIGN(staging_, backend_.allocate(kStagingBytes));
  }
  for (int64_t e = 0; e < w.n_experts; e++)
    fill_matrix(w, w.expert(e).data, device + e * packed_matrix_bytes(w.type, w.n_in, w.n_out));
  return ok_status();
}

void AdoptedWeights::fill_matrix(const Weight& w, const std::byte* host, std::byte* device) {
  const int64_t block_bytes = dtype_info(w.type).block_bytes;
  const int64_t n_blocks = w.matrix_bytes() / block_bytes, most = kStagingBytes / block_bytes;
  for (int64_t first = 0; first < n_blocks; first += most) {
    const int64_t n = std::min(most, n_blocks - first);
    backend_.copy_in(staging_, host + first * block_bytes, n * block_bytes);
    repack(queue_, w, staging_, first, n, device);
  }
}

}  // namespace narwhal::gpu
