#include "backend/gpu/packed.h"

#include <array>
#include <bit>

#include "base/check.h"
#include "kernels/repack.h"
#include "quant/quant.h"

namespace narwhal::gpu {
namespace {

struct Plane {
  int begin, n_bytes;  // of the block; a power of 2
  int change = kernels::kAsStored;
};
using Planes = std::array<Plane, 3>;

Planes planes_of(DType type) {
  switch (type) {
    case DType::kQ8_0:
      return {{{2, 32}, {0, 2}}};
    case DType::kQ4_K:
      return {{{16, 128}, {0, 16}}};
    case DType::kQ2_K:
      return {{{16, 64}, {0, 16, kernels::kUnitScales}, {80, 4}}};
    case DType::kIQ2_XXS:
      return {{{2, 64, kernels::kSignBytes}, {0, 2}}};
    case DType::kMXFP4:
      return {{{1, 16}, {0, 1}}};
    default:
      return {{{0, dtype_info(type).block_bytes}}};
  }
}

}  // namespace

bool is_packed(DType type) { return quant::can_decode(type); }

int stripe_rows(DType type) {
  static_assert(kernels::kStripeRows <= kernels::Repack::kMostRows);
  return dtype_info(type).block_elements > 1 ? kernels::kStripeRows : 1;
}

int64_t packed_matrix_bytes(DType type, int64_t n_in, int64_t n_out) {
  const int64_t stripe = stripe_rows(type), n_rows = (n_out + stripe - 1) / stripe * stripe;
  return (row_bytes(type, n_in) * n_rows + 15) / 16 * 16;
}

int64_t packed_bytes(const Weight& w) {
  return packed_matrix_bytes(w.type, w.n_in, w.n_out) * w.n_experts;
}

void repack(Queue& queue, const Weight& w, const std::byte* src, int64_t first_block,
            int64_t n_blocks, std::byte* packed) {
  using kernels::Repack;
  if (n_blocks == 0) return;
  const DTypeInfo& info = dtype_info(w.type);
  Repack k{};
  k.src = reinterpret_cast<const uint8_t*>(src);
  k.dst = reinterpret_cast<uint8_t*>(packed);
  k.first = first_block;
  k.n = n_blocks;
  k.stripe = stripe_rows(w.type);
  k.n_rows = w.n_out;
  k.row_blocks = w.n_in / info.block_elements;
  k.matrix_bytes = packed_matrix_bytes(w.type, w.n_in, w.n_out);
  k.block_bytes = info.block_bytes;
  k.run = Repack::kRunBytes / (k.stripe * info.block_bytes);
  for (const Plane& plane : planes_of(w.type)) {
    if (plane.n_bytes == 0) break;
    k.begin[k.n_planes] = plane.begin;
    k.change[k.n_planes] = plane.change;
    k.shift[k.n_planes++] = std::countr_zero(static_cast<unsigned>(plane.n_bytes));
  }
  const int64_t across = (k.row_blocks + k.run - 1) / k.run;
  const int64_t stripes = (k.n_rows + k.stripe - 1) / k.stripe;
  // The first run of a block's stripe.
  const auto run_of = [&](int64_t block) {
    const int64_t row = block / k.row_blocks, matrix = row / k.n_rows;
    return (matrix * stripes + (row - matrix * k.n_rows) / k.stripe) * across;
  };
  k.first_run = run_of(first_block);
  const int64_t n_runs = run_of(first_block + n_blocks - 1) + across - k.first_run;
  queue.run(k, (n_runs + Repack::kSimds - 1) / Repack::kSimds);
}

kernels::Matrix matrix_of(const Weight& w) {
  NW_CHECK(is_packed(w.type), "no kernels for {}", dtype_name(w.type));
  return {reinterpret_cast<const uint8_t*>(w.data), w.n_in, w.n_out,
          packed_matrix_bytes(w.type, w.n_in, w.n_out)};
}

}  // namespace narwhal::gpu
