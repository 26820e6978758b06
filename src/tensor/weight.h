// Weight: a view of one stored matrix, vector or stack of expert matrices.
//
// A matrix acts as y = W x: n_out rows of n_in values, row r = output r, rows contiguous. A vector
// has n_out = 1. An expert stack holds n_experts such matrices one after another. The bytes belong
// to the model file (or to the device copy of it) and are read-only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace narwhal {

struct Weight {
  const std::byte* data = nullptr;
  DType type = DType::kF32;
  int64_t n_in = 0;
  int64_t n_out = 1;
  int64_t n_experts = 1;

  explicit operator bool() const { return data != nullptr; }
  int64_t row_bytes() const { return narwhal::row_bytes(type, n_in); }
  int64_t matrix_bytes() const { return row_bytes() * n_out; }
  int64_t n_bytes() const { return matrix_bytes() * n_experts; }
  const std::byte* row(int64_t r) const { return data + r * row_bytes(); }
  Weight expert(int64_t e) const {
    Weight w = *this;
    w.data += e * matrix_bytes();
    w.n_experts = 1;
    return w;
  }
  // The matrix of rows [begin, end).
  Weight rows(int64_t begin, int64_t end) const {
    Weight w = *this;
    w.data += begin * row_bytes();
    w.n_out = end - begin;
    return w;
  }
};

}  // namespace narwhal
