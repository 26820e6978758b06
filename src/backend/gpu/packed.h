// Weights as the device keeps them: each field of the blocks in a plane of its own
// (kernels/weights.h draws them), experts at 16-byte boundaries.
#pragma once

#include <cstdint>

#include "backend/gpu/queue.h"
#include "kernels/weights.h"
#include "tensor/weight.h"

namespace narwhal::gpu {

// Whether the device can compute with this type; others (I32 tables) are stored as they are.
bool is_packed(DType type);

// Rows whose blocks lie side by side.
int stripe_rows(DType type);

// Bytes of one matrix, and of a whole weight.
int64_t packed_matrix_bytes(DType type, int64_t n_in, int64_t n_out);
int64_t packed_bytes(const Weight& w);

// Enqueues the split of blocks [first, first + n) of all matrices of a weight, one after another;
// src holds just these blocks, at any address.
void repack(Queue& queue, const Weight& w, const std::byte* src, int64_t first_block,
            int64_t n_blocks, std::byte* packed);

// What kernels take. w.data is packed device memory.
kernels::Matrix matrix_of(const Weight& w);

}  // namespace narwhal::gpu
