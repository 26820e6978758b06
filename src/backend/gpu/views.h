// ops/types.h as kernels take it.
#pragma once

#include <cmath>

#include "kernels/views.h"
#include "ops/types.h"

namespace narwhal::gpu {

inline kernels::Rows rows_of(const BatchRows& b) {
  return {b.token, b.position, b.slot, b.first_row, b.n_rows};
}

inline kernels::Format format_of(const RowFormat& f) {
  return {static_cast<int>(f.kind), f.dim, f.nope, f.bytes(),
          static_cast<float>(1.0 / std::sqrt(static_cast<double>(f.dim)))};
}

inline kernels::RingView ring_of(const Ring& r) {
  return {reinterpret_cast<uint8_t*>(r.base), r.slot_stride, r.offset, r.capacity, r.row_bytes};
}

inline kernels::PagedView paged_of(const PagedRows& p) {
  return {reinterpret_cast<uint8_t*>(p.pages),
          p.page_stride,
          p.offset,
          p.table,
          p.max_pages,
          p.rows_per_page,
          format_of(p.format)};
}

inline int64_t groups(int64_t n, int64_t per_group) { return (n + per_group - 1) / per_group; }

}  // namespace narwhal::gpu
