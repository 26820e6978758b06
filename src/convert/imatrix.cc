#include "convert/imatrix.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "base/file.h"

namespace narwhal {
namespace {

// Walks the bytes of the file; every read is checked against the end.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : left_(bytes) {}

  bool at_end() const { return left_.empty(); }
  size_t n_left() const { return left_.size(); }

  Result<int32_t> integer(const char* what) {
    int32_t v = 0;
    if (left_.size() < sizeof v) return truncated(what);
    std::memcpy(&v, left_.data(), sizeof v);
    left_.remove_prefix(sizeof v);
    return v;
  }
  Result<std::string_view> bytes(uint64_t n, const char* what) {
    if (n > left_.size()) return truncated(what);
    const std::string_view v = left_.substr(0, n);
    left_.remove_prefix(n);
    return v;
  }
  // A length of at least `least`.
  Result<int32_t> length(const char* what, int32_t least) {
    NW_ASSIGN(const int32_t n, integer(what));
    if (n < least) return bad_input(fmt::format("{} is {}, expected at least {}", what, n, least));
    return n;
  }

 private:
  static Status truncated(const char* what) {
    return bad_input(fmt::format("ends inside {}; copy the file again", what));
  }
  std::string_view left_;
};

struct Entry {
  std::string name;
  std::vector<float> values;
};

Result<Entry> read_entry(Cursor& in) {
  NW_ASSIGN(const int32_t n_name, in.length("the length of a name", 1));
  NW_ASSIGN(const std::string_view name, in.bytes(static_cast<uint64_t>(n_name), "a name"));
  NW_TRY(check_utf8(name).within("a name"));
  Entry e{std::string(name), {}};
  NW_ASSIGN(const int32_t n_calls, in.integer("the number of calls"));
  Result<int32_t> n_values = in.length("the number of values", 1);
  if (!n_values.ok()) return n_values.status().within(e.name);
  const uint64_t n_bytes = static_cast<uint64_t>(*n_values) * sizeof(float);
  Result<std::string_view> bytes = in.bytes(n_bytes, "the values");
  if (!bytes.ok()) return bytes.status().within(e.name);
  e.values.resize(static_cast<size_t>(*n_values));
  std::memcpy(e.values.data(), bytes->data(), n_bytes);
  for (size_t i = 0; i < e.values.size(); i++) {
    float& v = e.values[i];
    if (n_calls > 0) v /= static_cast<float>(n_calls);
    if (!std::isfinite(v) || v < 0)
      return bad_input(
          fmt::format("{}: value {} is {}, expected a finite number from 0; collect the "
                      "importance matrix again",
                      e.name, i, v));
  }
  return e;
}

}  // namespace

Result<Imatrix> Imatrix::open(const std::string& path) {
  NW_ASSIGN(const MappedFile file, MappedFile::open(path));
  const auto bytes = file.bytes();
  Result<Imatrix> r = parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!r.ok()) return r.status().within(path);
  return r;
}

Result<Imatrix> Imatrix::parse(std::string_view bytes) {
  Imatrix m;
  Cursor in(bytes);
  NW_ASSIGN(const int32_t n_entries, in.length("the number of entries", 1));
  for (int32_t i = 0; i < n_entries; i++) {
    Result<Entry> e = read_entry(in);
    if (!e.ok()) return e.status().within(fmt::format("entry {} of {}", i, n_entries));
    const std::string name = e->name;
    if (!m.entries_.emplace(name, std::move(e->values)).second)
      return bad_input(fmt::format("entry {} of {}: {} is there twice", i, n_entries, name));
  }
  if (in.at_end()) return m;
  NW_ASSIGN(m.n_chunks_, in.length("the number of chunks", 0));
  NW_ASSIGN(const int32_t n_dataset, in.length("the length of the data set name", 0));
  NW_ASSIGN(const std::string_view dataset,
            in.bytes(static_cast<uint64_t>(n_dataset), "the data set name"));
  NW_TRY(check_utf8(dataset).within("the data set name"));
  m.dataset_ = dataset;
  if (!in.at_end())
    return bad_input(
        fmt::format("{} bytes after the end; this is not an importance matrix", in.n_left()));
  return m;
}

Result<std::span<const float>> Imatrix::find(std::string_view tensor, int64_t expert,
                                             int64_t n_experts, int64_t n_columns) const {
  const auto checked = [&](const std::string& name, const std::vector<float>& v,
                           int64_t n) -> Result<std::span<const float>> {
    if (static_cast<int64_t>(v.size()) != n * n_columns)
      return bad_input(
          fmt::format("importance of {} has {} values, expected {}; it was made for "
                      "another model",
                      name, v.size(), n * n_columns));
    const int64_t slice = n == 1 ? 0 : expert;
    return std::span(v).subspan(static_cast<size_t>(slice * n_columns),
                                static_cast<size_t>(n_columns));
  };
  for (const char* joint : {".expert.", ".expert_"}) {
    const std::string name = fmt::format("{}{}{}", tensor, joint, expert);
    if (const auto it = entries_.find(name); it != entries_.end())
      return checked(name, it->second, 1);
  }
  const std::string name(tensor);
  if (const auto it = entries_.find(name); it != entries_.end())
    return checked(name, it->second, n_experts);
  return std::span<const float>();
}

}  // namespace narwhal
