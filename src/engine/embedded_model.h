// Minnow, the built-in model, inside the executable.
#pragma once

#include <cstddef>
#include <span>

namespace narwhal {

// A GGUF, aligned to a cache line; lives as long as the process.
std::span<const std::byte> embedded_model();

}  // namespace narwhal
