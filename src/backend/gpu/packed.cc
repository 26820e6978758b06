#include "backend/gpu/packed.h"

#include <array>

#include "base/check.h"

namespace narwhal::gpu {
namespace {

using Planes = std::array<std::pair<int, int>, 3>;  // first byte of the block, bytes

Planes planes_of(DType type) {
  switch (type) {
    case DType::kQ8_0:
      return {{{2, 32}, {0, 2}}};
    case DType::kQ4_K:
      return {{{16, 128}, {0, 16}}};
    case DType::kQ2_K:
      return {{{16, 64}, {0, 16}, {80, 4}}};
    case DType::kIQ2_XXS:
      return {{{2, 64}, {0, 2}}};
    case DType::kMXFP4:
      return {{{1, 16}, {0, 1}}};
    default:
      return {{{0, dtype_info(type).block_bytes}}};
  }
}

}  // namespace

bool is_packed(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ8_0:
    case DType::kQ4_K:
    case DType::kQ2_K:
    case DType::kIQ2_XXS:
    case DType::kMXFP4:
      return true;
    default:
      return false;
  }
}

int64_t packed_matrix_bytes(DType type, int64_t n_in, int64_t n_out) {
  return (row_bytes(type, n_in) * n_out + 15) / 16 * 16;
}

int64_t packed_bytes(const Weight& w) {
  return packed_matrix_bytes(w.type, w.n_in, w.n_out) * w.n_experts;
}

void repack(Queue& queue, const Weight& w, const std::byte* src, int64_t first_block,
            int64_t n_blocks, std::byte* matrix) {
  const DTypeInfo& info = dtype_info(w.type);
  kernels::Repack k{};
  k.src = reinterpret_cast<const uint8_t*>(src);
  k.dst = reinterpret_cast<uint8_t*>(matrix);
  k.first_block = first_block;
  k.n_blocks = n_blocks;
  k.blocks_of_matrix = w.n_in / info.block_elements * w.n_out;
  k.block_bytes = info.block_bytes;
  for (const auto& [begin, width] : planes_of(w.type)) {
    if (width == 0) break;
    k.begin[k.n_planes] = begin;
    k.width[k.n_planes++] = width;
  }
  queue.run(k, (n_blocks * info.block_bytes + k.kThreads - 1) / k.kThreads);
}

kernels::Matrix matrix_of(const Weight& w) {
  NW_CHECK(is_packed(w.type), "no kernels for {}", dtype_name(w.type));
  return {reinterpret_cast<const uint8_t*>(w.data), w.n_in, w.n_out,
          packed_matrix_bytes(w.type, w.n_in, w.n_out)};
}

}  // namespace narwhal::gpu
