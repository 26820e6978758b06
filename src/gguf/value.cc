#include "gguf/value.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <iterator>
#include <limits>

#include "base/file.h"
#include "base/json.h"

namespace narwhal::gguf {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read as they lie");

constexpr std::string_view kTypeNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};
constexpr uint32_t kTypeCount = std::size(kTypeNames);

template <class T>
T load(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

std::string_view load_string(const std::byte* p) {
  return {reinterpret_cast<const char*>(p) + 8, static_cast<size_t>(load<uint64_t>(p))};
}

}  // namespace

uint64_t scalar_bytes(ValueType t) {
  switch (t) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool:
      return 1;
    case ValueType::kU16:
    case ValueType::kI16:
      return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32:
      return 4;
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64:
      return 8;
    case ValueType::kString:
    case ValueType::kArray:
      break;
  }
  return 0;
}

std::string_view value_type_name(ValueType t) {
  const auto i = static_cast<uint32_t>(t);
  return i < kTypeCount ? kTypeNames[i] : "";
}

std::string shown(std::string_view s) {
  constexpr size_t kMax = 80;
  if (s.size() <= kMax && check_utf8(s).ok()) return json_quote(s);
  std::string ascii;
  for (const char c : s.substr(0, kMax)) ascii += c >= 0x20 && c < 0x7F ? c : '?';
  return json_quote(ascii) + (s.size() > kMax ? "..." : "");
}

std::optional<int64_t> Value::as_int(uint64_t i) const {
  const std::byte* p = data + i * scalar_bytes(element);
  switch (element) {
    case ValueType::kU8:
      return load<uint8_t>(p);
    case ValueType::kI8:
      return load<int8_t>(p);
    case ValueType::kU16:
      return load<uint16_t>(p);
    case ValueType::kI16:
      return load<int16_t>(p);
    case ValueType::kU32:
      return load<uint32_t>(p);
    case ValueType::kI32:
      return load<int32_t>(p);
    case ValueType::kI64:
      return load<int64_t>(p);
    case ValueType::kU64: {
      const auto v = load<uint64_t>(p);
      if (v > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(v);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> Value::as_float(uint64_t i) const {
  const std::byte* p = data + i * scalar_bytes(element);
  if (element == ValueType::kF32) return load<float>(p);
  if (element == ValueType::kF64) return load<double>(p);
  if (element == ValueType::kU64) return static_cast<double>(load<uint64_t>(p));
  const std::optional<int64_t> v = as_int(i);
  if (!v) return std::nullopt;
  return static_cast<double>(*v);
}

std::optional<bool> Value::as_bool(uint64_t i) const {
  if (element != ValueType::kBool) return std::nullopt;
  return load<uint8_t>(data + i) != 0;
}

std::vector<std::string_view> Value::strings() const {
  std::vector<std::string_view> out;
  if (element != ValueType::kString) return out;
  out.reserve(count);
  const std::byte* p = data;
  for (uint64_t i = 0; i < count; i++) {
    out.push_back(load_string(p));
    p += 8 + out.back().size();
  }
  return out;
}

std::string describe(const Value& v) {
  if (v.is_array()) return fmt::format("array of {} {}", v.count, value_type_name(v.element));
  const std::string_view type = value_type_name(v.type);
  if (v.type == ValueType::kString) return fmt::format("{} {}", type, shown(load_string(v.data)));
  if (v.type == ValueType::kBool) return fmt::format("{} {}", type, *v.as_bool());
  if (v.type == ValueType::kU64) return fmt::format("{} {}", type, load<uint64_t>(v.data));
  if (v.type == ValueType::kF32) return fmt::format("{} {}", type, load<float>(v.data));
  if (v.type == ValueType::kF64) return fmt::format("{} {}", type, load<double>(v.data));
  return fmt::format("{} {}", type, v.as_int().value_or(0));
}

}  // namespace narwhal::gguf
