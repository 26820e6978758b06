#include "safetensors/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <unordered_map>
#include <utility>

#include "base/json.h"

namespace narwhal::safetensors {
namespace {

static_assert(std::endian::native == std::endian::little, "the header length is read as it lies");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format
constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";

struct SourceTypeInfo {
  SourceType type;
  std::string_view name;
  int bytes;
};

// In the order of the enumeration.
constexpr SourceTypeInfo kTypes[] = {
    {SourceType::kBF16, "BF16", 2},       {SourceType::kF16, "F16", 2},
    {SourceType::kF32, "F32", 4},         {SourceType::kF64, "F64", 8},
    {SourceType::kI64, "I64", 8},         {SourceType::kI32, "I32", 4},
    {SourceType::kI16, "I16", 2},         {SourceType::kI8, "I8", 1},
    {SourceType::kU8, "U8", 1},           {SourceType::kF8_E4M3, "F8_E4M3", 1},
    {SourceType::kF8_E8M0, "F8_E8M0", 1}, {SourceType::kBool, "BOOL", 1},
};

const SourceTypeInfo& info_of(SourceType t) { return kTypes[static_cast<size_t>(t)]; }

// A number that counts something; nothing for any other value.
std::optional<uint64_t> as_count(const Json& j) {
  const int64_t v = j.as_int(-1);
  if (v < 0) return std::nullopt;
  return static_cast<uint64_t>(v);
}

// Text of the file in a message: quoted, and cut between characters so that it stays one line.
std::string shown(std::string_view s) {
  constexpr size_t kMax = 120;
  if (s.size() <= kMax) return json_quote(s);
  size_t n = kMax;
  while (n > 0 && (s[n] & 0xC0) == 0x80) n--;
  return json_quote(s.substr(0, n)) + "...";
}

Status fault(const std::string& file, std::string_view where, std::string_view found,
             std::string_view expected) {
  return bad_input(fmt::format("{}: {}: found {}, expected {}; download the file again", file,
                               where, found, expected));
}

Status read_shape(const std::string& file, const std::string& where, const Json& shape, Tensor& t) {
  if (!shape.is_array()) return fault(file, where, "no shape", "\"shape\": [rows, ...]");
  uint64_t n_bytes = source_type_bytes(t.type);
  for (const Json& dim : shape.items) {
    const auto d = as_count(dim);
    if (!d || __builtin_mul_overflow(n_bytes, *d, &n_bytes) || n_bytes > uint64_t{1} << 62)
      return fault(file, where, "shape " + shown(shape.dump()), "dimensions whose product fits");
    t.shape.push_back(static_cast<int64_t>(*d));
  }
  t.n_bytes = n_bytes;
  return ok_status();
}

Status read_tensor(const std::string& file, const Json& entry, std::span<const std::byte> data,
                   Tensor& t) {
  const std::string where = "tensor " + shown(t.name);
  const Json& dtype = entry["dtype"];
  const auto type = source_type_by_name(dtype.is_string() ? dtype.text : "");
  if (!type)
    return bad_input(
        fmt::format("{}: {}: found dtype {}, expected one of BF16 F16 F32 F64 I64 I32 "
                    "I16 I8 U8 F8_E4M3 F8_E8M0 BOOL; save the checkpoint in one of them",
                    file, where, shown(dtype.is_string() ? dtype.text : dtype.dump())));
  t.type = *type;
  NW_TRY(read_shape(file, where, entry["shape"], t));
  const Json& range = entry["data_offsets"];
  const auto begin = range.items.size() == 2 ? as_count(range.items[0]) : std::nullopt;
  const auto end = range.items.size() == 2 ? as_count(range.items[1]) : std::nullopt;
  if (!begin || !end || *begin > *end || *end > data.size())
    return fault(file, where, "data_offsets " + shown(range.dump()),
                 fmt::format("[begin, end] within {} bytes of data", data.size()));
  if (*end - *begin != t.n_bytes)
    return fault(file, where, fmt::format("{} bytes", *end - *begin),
                 fmt::format("{} for {} {}", t.n_bytes, dtype.text, shown(entry["shape"].dump())));
  t.data = data.data() + *begin;
  return ok_status();
}

// Appends the tensors of one file.
Status parse(const std::string& file, std::span<const std::byte> bytes, std::vector<Tensor>& out) {
  uint64_t n = 0;
  if (bytes.size() < sizeof n)
    return fault(file, "header", fmt::format("a file of {} bytes", bytes.size()), "at least 8");
  std::memcpy(&n, bytes.data(), sizeof n);
  const std::span<const std::byte> rest = bytes.subspan(sizeof n);
  if (n > kMaxHeaderBytes || n > rest.size())
    return fault(file, "header", fmt::format("a length of {} bytes", n),
                 fmt::format("at most {}", std::min<uint64_t>(kMaxHeaderBytes, rest.size())));
  const std::string_view text(reinterpret_cast<const char*>(rest.data()), n);
  auto header = Json::parse(text);
  if (!header.ok()) return header.status().within(file + ": header; download the file again");
  if (!header->is_object()) return fault(file, "header", "other JSON", "an object");
  const std::span<const std::byte> data = rest.subspan(n);
  out.reserve(out.size() + header->members.size());
  for (auto& [name, entry] : header->members) {
    if (name == "__metadata__") continue;
    Tensor t;
    t.name = std::move(name);
    NW_TRY(read_tensor(file, entry, data, t));
    out.push_back(std::move(t));
  }
  return ok_status();
}

// A shard lies beside its index and nowhere else.
bool plain_file_name(std::string_view s) {
  return !s.empty() && s != "." && s.find("..") == s.npos && s.find('/') == s.npos &&
         s.find('\\') == s.npos && s.find('\0') == s.npos;
}

bool ends_with(std::string_view s, std::string_view suffix) {
  return s.size() >= suffix.size() && s.substr(s.size() - suffix.size()) == suffix;
}

}  // namespace

std::string_view source_type_name(SourceType t) { return info_of(t).name; }
int source_type_bytes(SourceType t) { return info_of(t).bytes; }

std::optional<SourceType> source_type_by_name(std::string_view name) {
  for (const SourceTypeInfo& info : kTypes)
    if (info.name == name) return info.type;
  return std::nullopt;
}

int64_t Tensor::n_elements() const {
  return static_cast<int64_t>(n_bytes) / source_type_bytes(type);
}

Result<Checkpoint> Checkpoint::open(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::string file = path;
  if (fs::is_directory(path, ignored)) {
    file = (fs::path(path) / kIndexName).string();
    if (!fs::exists(file, ignored)) file = (fs::path(path) / kSingleName).string();
    if (!fs::exists(file, ignored))
      return bad_input(
          fmt::format("{}: found neither {} nor {}, expected one of them; name the "
                      "folder or the file of a checkpoint",
                      path, kIndexName, kSingleName));
  }
  Checkpoint c;
  NW_TRY(ends_with(file, ".json") ? c.add_shards(file) : c.add_file(file));
  c.sort_by_name();
  return c;
}

Result<Checkpoint> Checkpoint::from_memory(std::span<const std::byte> bytes,
                                           const std::string& name) {
  Checkpoint c;
  NW_TRY(parse(name, bytes, c.tensors_));
  c.sort_by_name();
  return c;
}

Status Checkpoint::add_file(const std::string& path) {
  NW_ASSIGN(MappedFile file, MappedFile::open(path));
  NW_TRY(parse(path, file.bytes(), tensors_));
  files_.push_back(std::move(file));
  return ok_status();
}

Status Checkpoint::add_shards(const std::string& index_path) {
  NW_ASSIGN(const std::string text, read_file(index_path));
  auto index = Json::parse(text);
  if (!index.ok()) return index.status().within(index_path + "; download the file again");
  const Json& weight_map = (*index)["weight_map"];
  if (!weight_map.is_object())
    return fault(index_path, "weight_map", "none", "an object of tensor names and file names");

  // Shards in the order of first mention, each with the tensors expected in it.
  std::vector<std::string> shards;
  std::unordered_map<std::string_view, size_t> shard_index;
  std::unordered_map<std::string_view, size_t> shard_of;
  for (const auto& [name, shard] : weight_map.members) {
    if (!shard.is_string() || !plain_file_name(shard.text))
      return fault(index_path, "tensor " + shown(name), "shard " + shown(shard.dump()),
                   "the name of a file beside the index");
    const auto [it, added] = shard_index.emplace(shard.text, shards.size());
    if (added) shards.push_back(shard.text);
    shard_of.emplace(name, it->second);
  }
  const auto folder = std::filesystem::path(index_path).parent_path();
  for (size_t i = 0; i < shards.size(); i++) {
    const size_t first = tensors_.size();
    NW_TRY(add_file((folder / shards[i]).string()).within(index_path));
    const auto elsewhere = [&](const Tensor& t) {
      const auto it = shard_of.find(t.name);
      return it == shard_of.end() || it->second != i;
    };
    tensors_.erase(std::remove_if(tensors_.begin() + first, tensors_.end(), elsewhere),
                   tensors_.end());
  }
  if (tensors_.size() == shard_of.size()) return ok_status();
  sort_by_name();
  for (const auto& [name, i] : shard_of)
    if (!find(name))
      return fault(index_path, "tensor " + shown(name), "it missing in " + shards[i],
                   "it there, as the index says");
  return ok_status();
}

void Checkpoint::sort_by_name() {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const Tensor& a, const Tensor& b) { return a.name < b.name; });
}

const Tensor* Checkpoint::find(std::string_view name) const {
  const auto it = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const Tensor& t, std::string_view n) { return t.name < n; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

}  // namespace narwhal::safetensors
