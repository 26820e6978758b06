// Element types as GGUF numbers them, and the size of a row of each.
//
// A row is stored in blocks of block_elements(t) values and block_bytes(t) bytes; quantised rows
// must be whole blocks. Layouts are drawn in quant/*.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace narwhal {

enum class DType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ4_K = 12,
  kIQ2_XXS = 16,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
  kMXFP4 = 39,
};

struct DTypeInfo {
  DType type;
  std::string_view name;  // lower case, as options and inspect spell it
  int block_elements;
  int block_bytes;
};

// Null for an id that this engine does not know (40 and 41 are used by incompatible forks).
const DTypeInfo* find_dtype(uint32_t ggml_id);
const DTypeInfo& dtype_info(DType t);
std::optional<DType> dtype_by_name(std::string_view name);

inline std::string_view dtype_name(DType t) { return dtype_info(t).name; }
inline int block_elements(DType t) { return dtype_info(t).block_elements; }

// Bytes of a row of n elements; n must be a multiple of the block.
int64_t row_bytes(DType t, int64_t n);

}  // namespace narwhal
