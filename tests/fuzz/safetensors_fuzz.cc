// Any bytes: safetensors::Checkpoint refuses them, or everything it hands out lies inside them.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "safetensors/reader.h"

using narwhal::safetensors::Checkpoint;
using narwhal::safetensors::source_type_bytes;
using narwhal::safetensors::Tensor;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes = std::as_bytes(std::span(data, size));
  const auto checkpoint = Checkpoint::from_memory(bytes, "fuzz");
  if (!checkpoint.ok()) {
    NW_CHECK(checkpoint.status().message().find('\n') == std::string::npos,
             "a message of two lines");
    return 0;
  }
  uint64_t sum = 0;
  for (const Tensor& t : checkpoint->tensors()) {
    NW_CHECK(checkpoint->find(t.name) == &t, "tensor {} is found elsewhere", t.name);
    uint64_t n_bytes = source_type_bytes(t.type);
    for (const int64_t d : t.shape) n_bytes *= d;
    NW_CHECK(n_bytes == t.n_bytes, "tensor {} has {} bytes", t.name, t.n_bytes);
    for (uint64_t i = 0; i < t.n_bytes; i++) sum += static_cast<uint64_t>(t.data[i]);
  }
  // Keeps the reads alive, for AddressSanitizer to see.
  [[maybe_unused]] static volatile uint64_t sink;
  sink = sum;
  return 0;
}
