#include "safetensors/writer.h"

#include <fmt/format.h>

#include <string_view>
#include <unordered_set>
#include <utility>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"

namespace narwhal::safetensors {

Status write_file(const std::string& path, std::span<const Tensor> tensors) {
  std::string header = "{";
  std::unordered_set<std::string_view> names;
  uint64_t n_data = 0;
  for (const Tensor& t : tensors) {
    if (!names.insert(t.name).second)
      return bad_input(fmt::format("{}: tensor {}: found it twice, expected unique names", path,
                                   json_quote(t.name)));
    uint64_t n_bytes = source_type_bytes(t.type);
    for (const int64_t d : t.shape) n_bytes *= d;
    NW_CHECK(n_bytes == t.n_bytes, "tensor {} has {} bytes, its shape says {}", t.name, t.n_bytes,
             n_bytes);
    if (header.size() > 1) header += ',';
    header += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          json_quote(t.name), source_type_name(t.type), fmt::join(t.shape, ","),
                          n_data, n_data + n_bytes);
    n_data += n_bytes;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');

  NW_ASSIGN(AtomicFile file, AtomicFile::create(path));
  const uint64_t n_header = header.size();
  NW_TRY(file.write_at(0, &n_header, sizeof n_header));
  NW_TRY(file.write_at(sizeof n_header, header.data(), header.size()));
  uint64_t at = sizeof n_header + header.size();
  for (const Tensor& t : tensors) {
    NW_TRY(file.write_at(at, t.data, t.n_bytes));
    at += t.n_bytes;
  }
  return file.commit();
}

}  // namespace narwhal::safetensors
