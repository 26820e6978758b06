// What kernels see of a step and of the KV memory: ops/types.h with address spaces.
#pragma once

#include "kernels/portable.h"

namespace narwhal {
namespace kernels {

k_value int kMaxRow = 512;  // dims of a head or KV row

struct Rows {
  k_device const int32_t* token;
  k_device const int32_t* position;
  k_device const int32_t* slot;
  k_device const int32_t* first_row;
  int n;
};

// Position of the first row of r's sequence in this step.
k_fn int first_position(k_private const Rows& b, int r) {
  return b.position[r] - (r - b.first_row[r]);
}

k_value int kRowAttention = 0, kRowIndex = 1, kRowF32 = 2;  // RowFormat::Kind

struct Format {
  int kind, dim, nope, n_bytes;
  float norm;  // dim^-0.5, the scale of the Hadamard transform
};

struct RingView {
  k_device uint8_t* base;
  int64_t slot_stride, offset;
  int capacity, row_bytes;
};

k_fn k_device uint8_t* ring_at(k_private const RingView& r, int slot, int position) {
  return r.base + slot * r.slot_stride + r.offset + int64_t(position % r.capacity) * r.row_bytes;
}

struct PagedView {
  k_device uint8_t* pages;
  int64_t page_stride, offset;
  k_device const int32_t* table;
  int max_pages, rows_per_page;
  Format format;
};

k_fn k_device uint8_t* paged_at(k_private const PagedView& p, int slot, int c) {
  const int64_t page = p.table[int64_t(slot) * p.max_pages + c / p.rows_per_page];
  return p.pages + page * p.page_stride + p.offset +
         int64_t(c % p.rows_per_page) * p.format.n_bytes;
}

}  // namespace kernels
}  // namespace narwhal
