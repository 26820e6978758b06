#include "tensor/dtype.h"

#include "base/check.h"

namespace narwhal {
namespace {

constexpr DTypeInfo kTypes[] = {
    {DType::kF32, "f32", 1, 4},
    {DType::kF16, "f16", 1, 2},
    {DType::kBF16, "bf16", 1, 2},
    {DType::kQ8_0, "q8_0", 32, 34},
    {DType::kQ4_K, "q4_k", 256, 144},
    {DType::kQ2_K, "q2_k", 256, 84},
    {DType::kIQ2_XXS, "iq2_xxs", 256, 66},
    {DType::kMXFP4, "mxfp4", 32, 17},
    {DType::kI8, "i8", 1, 1},
    {DType::kI16, "i16", 1, 2},
    {DType::kI32, "i32", 1, 4},
    {DType::kI64, "i64", 1, 8},
    {DType::kF64, "f64", 1, 8},
};

}  // namespace

const DTypeInfo* find_dtype(uint32_t ggml_id) {
  for (const auto& info : kTypes)
    if (static_cast<uint32_t>(info.type) == ggml_id) return &info;
  return nullptr;
}

const DTypeInfo& dtype_info(DType t) {
  const DTypeInfo* info = find_dtype(static_cast<uint32_t>(t));
  NW_CHECK(info, "unknown dtype {}", static_cast<uint32_t>(t));
  return *info;
}

std::optional<DType> dtype_by_name(std::string_view name) {
  for (const auto& info : kTypes)
    if (info.name == name) return info.type;
  return std::nullopt;
}

int64_t row_bytes(DType t, int64_t n) {
  const DTypeInfo& info = dtype_info(t);
  NW_CHECK(n >= 0 && n % info.block_elements == 0, "row of {} is not whole {} blocks of {}", n,
           info.name, info.block_elements);
  return n / info.block_elements * info.block_bytes;
}

}  // namespace narwhal
