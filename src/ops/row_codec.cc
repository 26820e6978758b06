#include "ops/row_codec.h"

#include <cstdint>
#include <cstring>

#include "quant/f16.h"
#include "quant/kv_codes.h"

namespace narwhal {
namespace {

using quant::kFp4Block;
using quant::kFp8Block;

uint8_t* codes(std::byte* p) { return reinterpret_cast<uint8_t*>(p); }
const uint8_t* codes(const std::byte* p) { return reinterpret_cast<const uint8_t*>(p); }

void encode_attention(const RowFormat& f, const float* x, std::byte* out) {
  uint8_t* exponents = codes(out) + f.nope;
  for (int b = 0; b < f.nope / kFp8Block; b++)
    exponents[b] = quant::fp8_block_encode(x + b * kFp8Block, codes(out) + b * kFp8Block);
  std::byte* tail = out + f.nope + f.nope / kFp8Block;
  for (int i = f.nope; i < f.dim; i++) {
    const uint16_t h = quant::f32_to_bf16(x[i]);
    std::memcpy(tail + 2 * (i - f.nope), &h, 2);
  }
}

void decode_attention(const RowFormat& f, const std::byte* row, float* x) {
  const uint8_t* exponents = codes(row) + f.nope;
  for (int b = 0; b < f.nope / kFp8Block; b++)
    quant::fp8_block_decode(codes(row) + b * kFp8Block, exponents[b], x + b * kFp8Block);
  const std::byte* tail = row + f.nope + f.nope / kFp8Block;
  for (int i = f.nope; i < f.dim; i++) {
    uint16_t h = 0;
    std::memcpy(&h, tail + 2 * (i - f.nope), 2);
    x[i] = quant::bf16_to_f32(h);
  }
}

void encode_index(const RowFormat& f, float* x, std::byte* out) {
  quant::hadamard(x, f.dim);
  uint8_t* exponents = codes(out) + f.dim / 2;
  for (int b = 0; b < f.dim / kFp4Block; b++)
    exponents[b] = quant::fp4_block_encode(x + b * kFp4Block, codes(out) + b * kFp4Block / 2);
}

void decode_index(const RowFormat& f, const std::byte* row, float* x) {
  const uint8_t* exponents = codes(row) + f.dim / 2;
  for (int b = 0; b < f.dim / kFp4Block; b++)
    quant::fp4_block_decode(codes(row) + b * kFp4Block / 2, exponents[b], x + b * kFp4Block);
}

}  // namespace

void encode_kv_row(const RowFormat& f, const float* x, std::byte* out, float* scratch) {
  switch (f.kind) {
    case RowFormat::Kind::kAttention:
      return encode_attention(f, x, out);
    case RowFormat::Kind::kIndex:
      std::memcpy(scratch, x, f.dim * sizeof(float));
      return encode_index(f, scratch, out);
    case RowFormat::Kind::kF32:
      std::memcpy(out, x, f.dim * sizeof(float));
      return;
  }
}

void decode_kv_row(const RowFormat& f, const std::byte* row, float* x) {
  switch (f.kind) {
    case RowFormat::Kind::kAttention:
      return decode_attention(f, row, x);
    case RowFormat::Kind::kIndex:
      return decode_index(f, row, x);
    case RowFormat::Kind::kF32:
      std::memcpy(x, row, f.dim * sizeof(float));
      return;
  }
}

void round_index_head(const RowFormat& f, float* q) {
  if (f.kind != RowFormat::Kind::kIndex) return;
  quant::hadamard(q, f.dim);
  for (int b = 0; b < f.dim / kFp4Block; b++) {
    uint8_t nibbles[kFp4Block / 2];
    const uint8_t e = quant::fp4_block_encode(q + b * kFp4Block, nibbles);
    quant::fp4_block_decode(nibbles, e, q + b * kFp4Block);
  }
}

}  // namespace narwhal
