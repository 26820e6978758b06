#include "quant/quant.h"

#include <cstring>

#include "base/check.h"
#include "quant/f16.h"
#include "quant/iq2_xxs.h"
#include "quant/mxfp4.h"
#include "quant/q2_k.h"
#include "quant/q4_k.h"
#include "quant/q8_0.h"

namespace narwhal::quant {
namespace {

// Blocks of a row of n values.
int64_t count_blocks(DType t, int64_t n) {
  const int per_block = block_elements(t);
  NW_CHECK(n >= 0 && n % per_block == 0, "a {} row of {} values", dtype_name(t), n);
  return n / per_block;
}

template <class Block>
const Block* as(const void* p) {
  NW_CHECK(reinterpret_cast<uintptr_t>(p) % alignof(Block) == 0, "row at {}", fmt::ptr(p));
  return static_cast<const Block*>(p);
}

template <class Block>
Block* as(void* p) {
  return const_cast<Block*>(as<Block>(static_cast<const void*>(p)));
}

}  // namespace

bool can_decode(DType t) {
  switch (t) {
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

bool can_encode(DType t) { return can_decode(t); }

bool needs_importance(DType t) { return t == DType::kIQ2_XXS; }

bool with_q8k(DType t) { return t == DType::kQ4_K || t == DType::kQ2_K || t == DType::kIQ2_XXS; }

void decode_row(DType t, const void* src, int64_t n, float* dst) {
  NW_CHECK(can_decode(t), "{} holds no weights", dtype_name(t));
  const int64_t blocks = count_blocks(t, n);
  switch (t) {
    case DType::kF16: {
      const auto* h = as<uint16_t>(src);
      for (int64_t i = 0; i < n; ++i) dst[i] = f16_to_f32(h[i]);
      return;
    }
    case DType::kBF16: {
      const auto* h = as<uint16_t>(src);
      for (int64_t i = 0; i < n; ++i) dst[i] = bf16_to_f32(h[i]);
      return;
    }
    case DType::kQ8_0:
      return decode_q8_0(as<BlockQ8_0>(src), blocks, dst);
    case DType::kQ4_K:
      return decode_q4_k(as<BlockQ4K>(src), blocks, dst);
    case DType::kQ2_K:
      return decode_q2_k(as<BlockQ2K>(src), blocks, dst);
    case DType::kIQ2_XXS:
      return decode_iq2_xxs(as<BlockIQ2XXS>(src), blocks, dst);
    case DType::kMXFP4:
      return decode_mxfp4(as<BlockMXFP4>(src), blocks, dst);
    default:
      if (n > 0) std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
  }
}

void encode_row(DType t, const float* src, int64_t n, const float* importance, void* dst) {
  NW_CHECK(can_encode(t), "{} holds no weights", dtype_name(t));
  NW_CHECK(importance || !needs_importance(t), "{} without importance", dtype_name(t));
  const int64_t blocks = count_blocks(t, n);
  switch (t) {
    case DType::kF16: {
      auto* h = as<uint16_t>(dst);
      for (int64_t i = 0; i < n; ++i) h[i] = f32_to_f16(src[i]);
      return;
    }
    case DType::kBF16: {
      auto* h = as<uint16_t>(dst);
      for (int64_t i = 0; i < n; ++i) h[i] = f32_to_bf16(src[i]);
      return;
    }
    case DType::kQ8_0:
      return encode_q8_0(src, blocks, as<BlockQ8_0>(dst));
    case DType::kQ4_K:
      return encode_q4_k(src, blocks, importance, as<BlockQ4K>(dst));
    case DType::kQ2_K:
      return encode_q2_k(src, blocks, importance, as<BlockQ2K>(dst));
    case DType::kIQ2_XXS:
      return encode_iq2_xxs(src, blocks, importance, as<BlockIQ2XXS>(dst));
    case DType::kMXFP4:
      return encode_mxfp4(src, blocks, as<BlockMXFP4>(dst));
    default:
      if (n > 0) std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
  }
}

float dot_q8k(DType t, const void* w, const Q8K* x, int64_t n) {
  NW_CHECK(with_q8k(t), "no integer dot product with {}", dtype_name(t));
  const int64_t blocks = count_blocks(t, n);
  if (t == DType::kQ4_K) return dot_q4_k(as<BlockQ4K>(w), x, blocks);
  if (t == DType::kQ2_K) return dot_q2_k(as<BlockQ2K>(w), x, blocks);
  return dot_iq2_xxs(as<BlockIQ2XXS>(w), x, blocks);
}

}  // namespace narwhal::quant
