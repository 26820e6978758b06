#include "gguf/writer.h"

#include <fmt/format.h>

#include <bit>
#include <utility>

#include "base/check.h"

namespace narwhal::gguf {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kVersion = 3;
constexpr std::string_view kAlignmentKey = "general.alignment";
// Keeps every sum of the layout far from wrapping; no disk is larger.
constexpr uint64_t kMaxBytes = uint64_t{1} << 60;

template <class T>
void append(std::string& out, T v) {
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}

void append_string(std::string& out, std::string_view s) {
  append(out, static_cast<uint64_t>(s.size()));
  out += s;
}

template <class T>
void append_all(std::string& out, std::span<const T> v) {
  out.append(reinterpret_cast<const char*>(v.data()), v.size_bytes());
}

uint64_t round_up(uint64_t n, uint64_t alignment) {
  return (n + alignment - 1) / alignment * alignment;
}

}  // namespace

Writer::Writer(uint64_t alignment) : alignment_(alignment) {
  NW_CHECK(std::has_single_bit(alignment) && alignment <= (uint64_t{1} << 31),
           "alignment {} is not a power of two up to 2^31", alignment);
  if (alignment != 32) add_u32(kAlignmentKey, static_cast<uint32_t>(alignment));
}

std::string& Writer::meta(std::string_view key, ValueType type) {
  NW_CHECK(!open_, "metadata {} after begin()", key);
  NW_CHECK(!key.empty(), "empty metadata key");
  Meta* m = nullptr;
  for (Meta& old : metadata_)
    if (old.key == key) m = &old;
  if (!m) m = &metadata_.emplace_back(Meta{std::string(key), {}});
  m->value.clear();
  append(m->value, static_cast<uint32_t>(type));
  return m->value;
}

std::string& Writer::meta_array(std::string_view key, ValueType element, uint64_t count) {
  std::string& out = meta(key, ValueType::kArray);
  append(out, static_cast<uint32_t>(element));
  append(out, count);
  return out;
}

void Writer::add_u8(std::string_view key, uint8_t v) { append(meta(key, ValueType::kU8), v); }
void Writer::add_u32(std::string_view key, uint32_t v) { append(meta(key, ValueType::kU32), v); }
void Writer::add_i32(std::string_view key, int32_t v) { append(meta(key, ValueType::kI32), v); }
void Writer::add_u64(std::string_view key, uint64_t v) { append(meta(key, ValueType::kU64), v); }
void Writer::add_i64(std::string_view key, int64_t v) { append(meta(key, ValueType::kI64), v); }
void Writer::add_f32(std::string_view key, float v) { append(meta(key, ValueType::kF32), v); }
void Writer::add_f64(std::string_view key, double v) { append(meta(key, ValueType::kF64), v); }
void Writer::add_bool(std::string_view key, bool v) {
  append(meta(key, ValueType::kBool), static_cast<uint8_t>(v));
}
void Writer::add_string(std::string_view key, std::string_view v) {
  append_string(meta(key, ValueType::kString), v);
}
void Writer::add_u32s(std::string_view key, std::span<const uint32_t> v) {
  append_all(meta_array(key, ValueType::kU32, v.size()), v);
}
void Writer::add_i32s(std::string_view key, std::span<const int32_t> v) {
  append_all(meta_array(key, ValueType::kI32, v.size()), v);
}
void Writer::add_f32s(std::string_view key, std::span<const float> v) {
  append_all(meta_array(key, ValueType::kF32, v.size()), v);
}
void Writer::add_strings(std::string_view key, std::span<const std::string> v) {
  std::string& out = meta_array(key, ValueType::kString, v.size());
  for (const std::string& s : v) append_string(out, s);
}
void Writer::add_strings(std::string_view key, std::span<const std::string_view> v) {
  std::string& out = meta_array(key, ValueType::kString, v.size());
  for (const std::string_view s : v) append_string(out, s);
}

void Writer::copy(std::string_view key, const Value& v) {
  if (key == kAlignmentKey) return;
  std::string& out = v.is_array() ? meta_array(key, v.element, v.count) : meta(key, v.type);
  out.append(reinterpret_cast<const char*>(v.data), v.n_bytes);
}

// The first fault wins: the later ones may follow from it.
void Writer::fault(std::string message) {
  if (fault_.ok()) fault_ = bad_input(std::move(message));
}

int Writer::declare(std::string name, DType type, std::span<const int64_t> dims) {
  NW_CHECK(!open_, "tensor {} after begin()", name);
  const int index = n_tensors();
  Info& t = tensors_.emplace_back(Info{std::move(name), type, {dims.begin(), dims.end()}, 0, 0});
  if (!names_.emplace(t.name, index).second) {
    fault(fmt::format("tensor {}: found it twice, expected unique names", t.name));
    return index;
  }
  const DTypeInfo& info = dtype_info(type);
  bool good = !t.name.empty() && check_utf8(t.name).ok() && !dims.empty() && dims.size() <= 4 &&
              dims[0] % info.block_elements == 0;
  int64_t n = 1;
  for (const int64_t d : dims) good = good && d > 0 && !__builtin_mul_overflow(n, d, &n);
  uint64_t n_bytes = 0;
  good = good && !__builtin_mul_overflow(static_cast<uint64_t>(n / info.block_elements),
                                         static_cast<uint64_t>(info.block_bytes), &n_bytes);
  if (good && n_bytes < kMaxBytes && data_bytes_ < kMaxBytes) {
    t.n_bytes = n_bytes;
    return index;
  }
  fault(
      fmt::format("tensor {}: found {} of {}, expected a name, 1 to 4 positive dimensions and rows "
                  "of whole blocks of {}",
                  t.name, info.name, fmt::join(dims, " x "), info.block_elements));
  return index;
}

int Writer::add_tensor(std::string name, DType type, std::span<const int64_t> dims) {
  const int index = declare(std::move(name), type, dims);
  tensors_[index].offset = data_bytes_;
  data_bytes_ += round_up(tensors_[index].n_bytes, alignment_);
  return index;
}

int Writer::add_alias(std::string name, DType type, std::span<const int64_t> dims, int other,
                      uint64_t byte_offset) {
  NW_CHECK(other >= 0 && other < n_tensors(), "tensor {} of {}", other, n_tensors());
  const int index = declare(std::move(name), type, dims);
  Info& t = tensors_[index];
  const Info& base = tensors_[other];
  t.offset = base.offset + byte_offset;
  if (byte_offset % alignment_ != 0 || byte_offset > base.n_bytes ||
      t.n_bytes > base.n_bytes - byte_offset)
    fault(
        fmt::format("tensor {}: found {} bytes at byte {} of tensor {}, expected a part of its {} "
                    "bytes at a multiple of {}",
                    t.name, t.n_bytes, byte_offset, base.name, base.n_bytes, alignment_));
  return index;
}

uint64_t Writer::header_bytes() const {
  uint64_t n = 4 + 4 + 8 + 8;
  for (const Meta& m : metadata_) n += 8 + m.key.size() + m.value.size();
  for (const Info& t : tensors_) n += 8 + t.name.size() + 4 + 8 * t.dims.size() + 4 + 8;
  return n;
}

uint64_t Writer::data_offset() const {
  return open_ ? data_offset_ : round_up(header_bytes(), alignment_);
}

std::string Writer::header() const {
  std::string out;
  out.reserve(data_offset_);
  append(out, kMagic);
  append(out, kVersion);
  append(out, static_cast<uint64_t>(tensors_.size()));
  append(out, static_cast<uint64_t>(metadata_.size()));
  for (const Meta& m : metadata_) {
    append_string(out, m.key);
    out += m.value;
  }
  for (const Info& t : tensors_) {
    append_string(out, t.name);
    append(out, static_cast<uint32_t>(t.dims.size()));
    append_all(out, std::span<const int64_t>(t.dims));
    append(out, static_cast<uint32_t>(t.type));
    append(out, t.offset);
  }
  return out;
}

Status Writer::begin(const std::string& path) {
  NW_CHECK(!open_, "begin() twice");
  NW_TRY(fault_.within(path));
  data_offset_ = data_offset();
  NW_ASSIGN(AtomicFile file, AtomicFile::create(path));
  NW_TRY(file.resize(file_bytes()));
  const std::string head = header();
  NW_CHECK(head.size() == header_bytes(), "header of {} bytes, planned {}", head.size(),
           header_bytes());
  NW_TRY(file.write_at(0, head.data(), head.size()));
  file_ = std::move(file);
  open_ = true;
  return ok_status();
}

Status Writer::write(int tensor, uint64_t byte_offset, const void* data, size_t n) {
  NW_CHECK(open_, "write() outside begin() ... finish()");
  const uint64_t size = tensor_bytes(tensor);
  NW_CHECK(byte_offset <= size && n <= size - byte_offset,
           "{} bytes at {} of tensor {} of {} bytes", n, byte_offset, tensors_[tensor].name, size);
  return file_.write_at(tensor_offset(tensor) + byte_offset, data, n);
}

Status Writer::finish() {
  NW_CHECK(open_, "finish() without begin()");
  open_ = false;
  return std::exchange(file_, AtomicFile()).commit();
}

uint64_t Writer::tensor_bytes(int tensor) const {
  NW_CHECK(tensor >= 0 && tensor < n_tensors(), "tensor {} of {}", tensor, n_tensors());
  return tensors_[tensor].n_bytes;
}

uint64_t Writer::tensor_offset(int tensor) const {
  NW_CHECK(tensor >= 0 && tensor < n_tensors(), "tensor {} of {}", tensor, n_tensors());
  return data_offset() + tensors_[tensor].offset;
}

}  // namespace narwhal::gguf
