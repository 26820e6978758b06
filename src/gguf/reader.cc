#include "gguf/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace narwhal::gguf {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read as they lie");

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kVersion = 3;
// The least a key with its value, and a tensor record, can take: bounds the counts before any
// memory is reserved for them.
constexpr uint64_t kMinKeyValueBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;

template <class T>
T load(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

}  // namespace

// A position in the header. Every read is checked against the end of the file.
struct File::Cursor {
  const std::string& file;
  std::span<const std::byte> bytes;
  uint64_t at = 0;

  uint64_t left() const { return bytes.size() - at; }
  Status fault(std::string_view field, std::string_view found, std::string_view expected) const {
    return bad_input(
        fmt::format("{}: {}: found {}, expected {}; the file is damaged, download or "
                    "convert it again",
                    file, field, found, expected));
  }
  Status need(uint64_t n, std::string_view field) const {
    if (n <= left()) return ok_status();
    return fault(field, fmt::format("{} bytes left at byte {}", left(), at),
                 fmt::format("{} more", n));
  }
  template <class T>
  Status read(T& v, std::string_view field) {
    NW_TRY(need(sizeof(T), field));
    v = load<T>(bytes.data() + at);
    at += sizeof(T);
    return ok_status();
  }
  Status read_string(std::string_view& s, std::string_view field) {
    uint64_t n = 0;
    NW_TRY(read(n, field));
    NW_TRY(need(n, field));
    s = {reinterpret_cast<const char*>(bytes.data()) + at, static_cast<size_t>(n)};
    at += n;
    return ok_status();
  }
  // A key or a tensor name.
  Status read_name(std::string_view& s, std::string_view field) {
    NW_TRY(read_string(s, field));
    if (s.empty()) return fault(field, "an empty name", "a name");
    if (!check_utf8(s).ok()) return fault(field, shown(s), "UTF-8");
    return ok_status();
  }
};

Result<File> File::open(const std::string& path) {
  File file;
  NW_ASSIGN(file.map_, MappedFile::open(path));
  file.bytes_ = file.map_.bytes();
  file.name_ = path;
  NW_TRY(file.parse());
  return file;
}

Result<File> File::from_memory(std::span<const std::byte> bytes, std::string name) {
  File file;
  file.bytes_ = bytes;
  file.name_ = std::move(name);
  NW_TRY(file.parse());
  return file;
}

Status File::parse() {
  Cursor in{name_, bytes_};
  if (bytes_.size() < 4 || load<uint32_t>(bytes_.data()) != kMagic)
    return bad_input(name_ +
                     ": not a GGUF file: it does not begin with \"GGUF\"; name a .gguf file");
  in.at = sizeof kMagic;
  uint32_t version = 0;
  NW_TRY(in.read(version, "version"));
  if (version == __builtin_bswap32(kVersion))
    return bad_input(name_ + ": big-endian GGUF, expected little-endian; convert the file again");
  if (version != kVersion)
    return bad_input(fmt::format("{}: GGUF version {}, expected {}; convert the file again", name_,
                                 version, kVersion));
  uint64_t n_tensors = 0, n_kv = 0;
  NW_TRY(in.read(n_tensors, "tensor count"));
  NW_TRY(in.read(n_kv, "metadata count"));
  NW_TRY(read_metadata(in, n_kv));
  NW_TRY(check_metadata());
  NW_TRY(read_tensors(in, n_tensors));
  return place_tensors(in.at);
}

Status File::read_metadata(Cursor& in, uint64_t n_kv) {
  if (n_kv > in.left() / kMinKeyValueBytes)
    return in.fault("metadata count", fmt::to_string(n_kv), "no more than the file can hold");
  metadata_.reserve(n_kv);
  for (uint64_t i = 0; i < n_kv; i++) {
    KeyValue kv;
    NW_TRY(in.read_name(kv.key, fmt::format("key of metadata entry {}", i)));
    NW_TRY(read_value(in, kv.key, kv.value));
    if (!key_index_.emplace(kv.key, i).second)
      return in.fault("metadata key " + shown(kv.key), "it twice", "unique keys");
    metadata_.push_back(kv);
  }
  return ok_status();
}

Status File::read_value(Cursor& in, std::string_view key, Value& v) const {
  const std::string where = "metadata key " + shown(key);
  const auto read_type = [&](ValueType& t) -> Status {
    uint32_t id = 0;
    NW_TRY(in.read(id, where));
    if (value_type_name(static_cast<ValueType>(id)).empty())
      return in.fault(where, fmt::format("value type {}", id), "a type from 0 to 12");
    t = static_cast<ValueType>(id);
    return ok_status();
  };
  NW_TRY(read_type(v.type));
  v.element = v.type;
  v.count = 1;
  if (v.is_array()) {
    NW_TRY(read_type(v.element));
    if (v.element == ValueType::kArray)
      return in.fault(where, "an array of arrays", "an array of scalars or strings");
    NW_TRY(in.read(v.count, where));
  }
  return read_elements(in, where, v);
}

Status File::read_elements(Cursor& in, const std::string& where, Value& v) const {
  const uint64_t begin = in.at;
  v.data = bytes_.data() + begin;
  const bool strings = v.element == ValueType::kString;
  const uint64_t least = strings ? sizeof(uint64_t) : scalar_bytes(v.element);
  if (v.count > in.left() / least)
    return in.fault(where,
                    fmt::format("{} elements of type {}", v.count, value_type_name(v.element)),
                    fmt::format("at most the {} bytes left in the file", in.left()));
  if (strings) {
    std::string_view s;
    for (uint64_t i = 0; i < v.count; i++) NW_TRY(in.read_string(s, where));
  } else {
    in.at += v.count * least;
  }
  v.n_bytes = in.at - begin;
  if (v.element == ValueType::kBool) {
    for (uint64_t i = 0; i < v.n_bytes; i++)
      if (const auto b = load<uint8_t>(v.data + i); b > 1)
        return in.fault(where, fmt::format("a bool of {}", b), "0 or 1");
  }
  return ok_status();
}

// The keys that concern the container itself.
Status File::check_metadata() {
  if (has("general.alignment")) {
    NW_ASSIGN(const int64_t a, get_int("general.alignment"));
    if (a <= 0 || !std::has_single_bit(static_cast<uint64_t>(a)))
      return bad_input(
          fmt::format("{}: general.alignment: found {}, expected a power of two; "
                      "convert the file again",
                      name_, a));
    alignment_ = a;
  }
  if (has("split.count")) {
    NW_ASSIGN(const int64_t n, get_int("split.count"));
    if (n > 1)
      return bad_input(
          fmt::format("{}: one of {} parts of a split model, expected a whole one; "
                      "merge the parts into one file",
                      name_, n));
  }
  return ok_status();
}

Status File::read_tensors(Cursor& in, uint64_t n_tensors) {
  if (n_tensors > in.left() / kMinTensorBytes)
    return in.fault("tensor count", fmt::to_string(n_tensors), "no more than the file can hold");
  tensors_.reserve(n_tensors);
  for (uint64_t i = 0; i < n_tensors; i++) {
    Tensor t;
    std::string_view name;
    NW_TRY(in.read_name(name, fmt::format("name of tensor {}", i)));
    t.name = name;
    NW_TRY(read_tensor(in, t));
    if (!tensor_index_.emplace(name, i).second)
      return in.fault("tensor " + shown(name), "it twice", "unique names");
    tensors_.push_back(std::move(t));
  }
  return ok_status();
}

// What follows the name. The offset is left relative to the data section.
Status File::read_tensor(Cursor& in, Tensor& t) const {
  const std::string where = "tensor " + shown(t.name);
  uint32_t n_dims = 0, type = 0;
  NW_TRY(in.read(n_dims, where));
  if (n_dims < 1 || n_dims > t.dims.size())
    return in.fault(where, fmt::format("{} dimensions", n_dims), "1 to 4");
  t.n_dims = static_cast<int>(n_dims);
  int64_t n_elements = 1;
  for (int i = 0; i < t.n_dims; i++) {
    NW_TRY(in.read(t.dims[i], where));
    if (t.dims[i] < 1)
      return in.fault(where, fmt::format("dimension {} of {}", i, static_cast<uint64_t>(t.dims[i])),
                      "1 to 2^63 - 1");
    if (__builtin_mul_overflow(n_elements, t.dims[i], &n_elements))
      return in.fault(where, "more than 2^63 elements", "a product that fits");
  }
  NW_TRY(in.read(type, where));
  const DTypeInfo* info = find_dtype(type);
  if (!info)
    return bad_input(
        fmt::format("{}: {}: found element type {}, which this engine does not read; "
                    "convert to one of f32 f16 bf16 q8_0 q4_k q2_k iq2_xxs mxfp4",
                    name_, where, type));
  t.type = info->type;
  if (t.dims[0] % info->block_elements != 0)
    return in.fault(where, fmt::format("rows of {}", t.dims[0]),
                    fmt::format("whole {} blocks of {}", info->name, info->block_elements));
  if (__builtin_mul_overflow(static_cast<uint64_t>(n_elements / info->block_elements),
                             static_cast<uint64_t>(info->block_bytes), &t.n_bytes))
    return in.fault(where, "more than 2^64 bytes", "a size that fits");
  NW_TRY(in.read(t.offset, where));
  if (t.offset % alignment_ != 0)
    return in.fault(where, fmt::format("offset {}", t.offset),
                    fmt::format("a multiple of the alignment {}", alignment_));
  return ok_status();
}

Status File::place_tensors(uint64_t header_bytes) {
  // Both terms are below 2^63, so the sum cannot wrap.
  data_offset_ = header_bytes + (alignment_ - header_bytes % alignment_) % alignment_;
  const uint64_t data_bytes = bytes_.size() - std::min<uint64_t>(bytes_.size(), data_offset_);
  for (Tensor& t : tensors_) {
    if (t.offset > data_bytes || t.n_bytes > data_bytes - t.offset)
      return bad_input(
          fmt::format("{}: tensor {}: found {} bytes at {} of a data section of {} "
                      "bytes, expected it to end inside; the file is cut short, "
                      "download or convert it again",
                      name_, shown(t.name), t.n_bytes, t.offset, data_bytes));
    t.offset += data_offset_;
    t.data = bytes_.data() + t.offset;
  }
  return ok_status();
}

const Tensor* File::tensor(std::string_view name) const {
  const auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

const Value* File::find(std::string_view key) const {
  const auto it = key_index_.find(key);
  return it == key_index_.end() ? nullptr : &metadata_[it->second].value;
}

Result<const Value*> File::need(std::string_view key) const {
  if (const Value* v = find(key)) return v;
  return bad_input(
      fmt::format("{}: metadata key {}: found none, expected one; convert the file "
                  "again or choose a DeepSeek V4 model",
                  name_, shown(key)));
}

Status File::wrong_type(std::string_view key, const Value& v, std::string_view expected) const {
  return bad_input(fmt::format("{}: metadata key {}: found {}, expected {}; convert the file again",
                               name_, shown(key), describe(v), expected));
}

Result<int64_t> File::get_int(std::string_view key) const {
  NW_ASSIGN(const Value* v, need(key));
  if (!v->is_array())
    if (const auto x = v->as_int()) return *x;
  return wrong_type(key, *v, "an integer below 2^63");
}

Result<double> File::get_float(std::string_view key) const {
  NW_ASSIGN(const Value* v, need(key));
  if (!v->is_array())
    if (const auto x = v->as_float()) return *x;
  return wrong_type(key, *v, "a number");
}

Result<bool> File::get_bool(std::string_view key) const {
  NW_ASSIGN(const Value* v, need(key));
  if (!v->is_array())
    if (const auto x = v->as_bool()) return *x;
  return wrong_type(key, *v, "a bool");
}

Result<std::string_view> File::get_string(std::string_view key) const {
  NW_ASSIGN(const Value* v, need(key));
  if (v->type != ValueType::kString) return wrong_type(key, *v, "a string");
  return v->strings()[0];
}

Result<std::vector<int64_t>> File::get_ints(std::string_view key) const {
  NW_ASSIGN(const Value* v, need(key));
  std::vector<int64_t> out;
  out.reserve(v->count);
  for (uint64_t i = 0; i < v->count; i++) {
    const auto x = v->as_int(i);
    if (!x) return wrong_type(key, *v, "integers below 2^63");
    out.push_back(*x);
  }
  return out;
}

Result<std::vector<double>> File::get_floats(std::string_view key) const {
  NW_ASSIGN(const Value* v, need(key));
  std::vector<double> out;
  out.reserve(v->count);
  for (uint64_t i = 0; i < v->count; i++) {
    const auto x = v->as_float(i);
    if (!x) return wrong_type(key, *v, "numbers");
    out.push_back(*x);
  }
  return out;
}

Result<std::vector<std::string_view>> File::get_strings(std::string_view key) const {
  NW_ASSIGN(const Value* v, need(key));
  if (v->element != ValueType::kString) return wrong_type(key, *v, "strings");
  return v->strings();
}

}  // namespace narwhal::gguf
