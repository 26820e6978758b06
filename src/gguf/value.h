// Metadata values of a GGUF file (gguf/reader.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace narwhal::gguf {

// Metadata types as the file numbers them.
enum class ValueType : uint32_t {
  kU8 = 0,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

// "u8" ... "f64", "bool", "string", "array"; empty for a number that is no type.
std::string_view value_type_name(ValueType t);

// A metadata value left where it lies in the file: cheap to copy, valid as long as the File.
struct Value {
  ValueType type = ValueType::kU8;     // kArray for a list
  ValueType element = ValueType::kU8;  // type of the elements; equals `type` for a scalar
  uint64_t count = 0;                  // elements; 1 for a scalar
  const std::byte* data = nullptr;     // the elements as stored; not aligned
  uint64_t n_bytes = 0;

  bool is_array() const { return type == ValueType::kArray; }
  // Element i (< count); nothing when the type does not convert. Integers convert to float, not
  // back; a u64 past INT64_MAX is no int.
  std::optional<int64_t> as_int(uint64_t i = 0) const;
  std::optional<double> as_float(uint64_t i = 0) const;
  std::optional<bool> as_bool(uint64_t i = 0) const;
  // All strings of a string or of an array of strings; empty for other types. O(count).
  std::vector<std::string_view> strings() const;
};

// One line for messages and listings: `u32 43`, `string "gpt2"`, `array of 44 i32`.
std::string describe(const Value& v);

// Bytes of one value as stored; 0 for strings and arrays.
uint64_t scalar_bytes(ValueType t);

// Text out of a file, safe to print: quoted, escaped, at most 80 bytes of it.
std::string shown(std::string_view s);

}  // namespace narwhal::gguf
