// Parts of a sequence's state as plain bytes, for snapshots, shared prefixes and the disk.
//
// The frontier is everything at position P that its compressed rows
// do not hold (model section 15), so that rows + frontier resume a sequence exactly.
//
//   per layer   window rows of the last min(window, P) positions, oldest first
//   CSA         k then s of the previous window's 4 tokens, first half of the channels (the part
//   that the
//               next row pools), then of the P mod 4 tokens since, all channels; the same for the
//               indexer
//   HCA         k then s of the P mod 128 tokens since the last row
//
// Rows are the compressed rows that the tokens of a range closed, layer by layer, attention rows
// before index rows. Ranges start and end at multiples of 128.
//
// At Flash a frontier is 3.64 MB where P is a multiple of 128, up to 10 MB more elsewhere, and
// rows are 3.5 KB a token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/kv_layout.h"

namespace narwhal {

int64_t frontier_image_bytes(const Config& config, const KvLayout& layout, int64_t position);

// Copies between the rings of `slot` and an image. The rings must hold the state at `position`;
// loading leaves entries that no query can reach as they were.
void save_frontier(const Config& config, const KvLayout& layout, const KvMemory& memory,
                   Backend& backend, int slot, int64_t position, std::span<std::byte> image);
void load_frontier(const Config& config, const KvLayout& layout, const KvMemory& memory,
                   Backend& backend, int slot, int64_t position, std::span<const std::byte> image);

int64_t rows_image_bytes(const KvLayout& layout, int64_t begin, int64_t end);
void save_rows(const Config& config, const KvLayout& layout, const KvMemory& memory,
               Backend& backend, int slot, int64_t begin, int64_t end, std::span<std::byte> image);
// The slot's page table must already cover the range with pages of its own.
void load_rows(const Config& config, const KvLayout& layout, const KvMemory& memory,
               Backend& backend, int slot, int64_t begin, int64_t end,
               std::span<const std::byte> image);

}  // namespace narwhal
