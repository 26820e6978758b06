// What ops work on: plain structs of device pointers and sizes, fit to be copied into a kernel.
//
// All pointers are device memory of the backend in use. Sizes are fixed when a step is recorded;
// whatever changes from token to token (ids, positions, sequences, chosen experts) is read from
// device arrays.
#pragma once

#include <cstddef>
#include <cstdint>

namespace narwhal {

// What each row of a step is. A row is one token of one sequence; rows of a sequence are adjacent
// and their positions ascend by one, so row r's predecessor in its sequence is row r - 1 or older
// than the step.
struct BatchRows {
  int n_rows = 0;
  const int32_t* token = nullptr;      // [n_rows]
  const int32_t* position = nullptr;   // [n_rows] absolute, from 0
  const int32_t* slot = nullptr;       // [n_rows] where the sequence keeps its state
  const int32_t* first_row = nullptr;  // [n_rows] first row of this step of the same sequence

  // Position of the first row of r's sequence in this step.
  int32_t first_position(int r) const { return position[r] - (r - first_row[r]); }
};

// How a KV row is stored (spec: model section 6, GGUF section 5).
//
//   trained precision, attention row     nope x E4M3 | nope/64 x E8M0 | rope x BF16      583 B at
//   Flash trained precision, index row         dim/2 x two E2M1 | dim/32 x E8M0                 68
//   B at Flash f32 (comparison mode)                dim x f32
struct RowFormat {
  enum class Kind : int32_t { kAttention, kIndex, kF32 };
  Kind kind = Kind::kF32;
  int dim = 0;
  int nope = 0;  // leading dims without rope; kAttention only

  int bytes() const {
    switch (kind) {
      case Kind::kAttention:
        return nope + nope / 64 + 2 * (dim - nope);
      case Kind::kIndex:
        return dim / 2 + dim / 32;
      default:
        return dim * static_cast<int>(sizeof(float));
    }
  }
};

// The newest rows of every sequence, by position: position p lies in entry p mod capacity. Entries
// are only overwritten by ring_store, after the step has read them.
struct Ring {
  std::byte* base = nullptr;
  int64_t slot_stride = 0;  // bytes from one sequence's state to the next
  int64_t offset = 0;       // of this ring within the state
  int capacity = 0;         // entries
  int row_bytes = 0;

  std::byte* at(int slot, int64_t position) const {
    return base + slot * slot_stride + offset + position % capacity * row_bytes;
  }
};

// Compressed rows of every sequence, append-only, in pages that sequences may share: row c of a
// sequence lies in page table[slot][c / rows_per_page].
struct PagedRows {
  std::byte* pages = nullptr;
  int64_t page_stride = 0;         // bytes from one page to the next
  int64_t offset = 0;              // of this layer's rows within a page
  const int32_t* table = nullptr;  // [n_slots][max_pages]
  int max_pages = 0;
  int rows_per_page = 0;
  RowFormat format;

  std::byte* at(int slot, int64_t c) const {
    const int64_t page = table[int64_t{slot} * max_pages + c / rows_per_page];
    return pages + page * page_stride + offset + c % rows_per_page * format.bytes();
  }
};

// Rows visible to the query at `position`: a query that closes a window sees the row it completed.
inline int64_t visible_rows(int64_t position, int ratio) { return (position + 1) / ratio; }

}  // namespace narwhal
