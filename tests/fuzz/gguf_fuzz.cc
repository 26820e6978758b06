// Any bytes: gguf::File refuses them, or everything it hands out lies inside them.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "gguf/reader.h"

using narwhal::gguf::File;
using narwhal::gguf::KeyValue;
using narwhal::gguf::Tensor;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes = std::as_bytes(std::span(data, size));
  const auto file = File::from_memory(bytes, "fuzz");
  if (!file.ok()) {
    NW_CHECK(file.status().message().find('\n') == std::string::npos, "a message of two lines");
    return 0;
  }
  uint64_t sum = 0;
  for (const KeyValue& kv : file->metadata()) {
    sum += describe(kv.value).size();
    for (const std::string_view s : kv.value.strings())
      for (const char c : s) sum += c;
    if (const auto v = file->get_ints(kv.key); v.ok()) sum += v->size();
    if (const auto v = file->get_floats(kv.key); v.ok()) sum += v->size();
    if (const auto v = file->get_strings(kv.key); v.ok()) sum += v->size();
    if (const auto v = file->get_bool(kv.key); v.ok()) sum += *v;
    if (const auto v = file->get_string(kv.key); v.ok()) sum += v->size();
    NW_CHECK(file->find(kv.key)->data == kv.value.data, "key {} is found elsewhere", kv.key);
  }
  for (const Tensor& t : file->tensors()) {
    NW_CHECK(file->tensor(t.name) == &t, "tensor {} is found elsewhere", t.name);
    NW_CHECK(t.n_bytes == static_cast<uint64_t>(t.n_rows() * row_bytes(t.type, t.dims[0])),
             "tensor {} has {} bytes", t.name, t.n_bytes);
    NW_CHECK(t.offset % file->alignment() == 0, "tensor {} at {}", t.name, t.offset);
    for (uint64_t i = 0; i < t.n_bytes; i++) sum += static_cast<uint64_t>(t.data[i]);
  }
  // Keeps the reads alive, for AddressSanitizer to see.
  [[maybe_unused]] static volatile uint64_t sink;
  sink = sum;
  return 0;
}
