#include "engine/embedded_model.h"

// Placed by embedded_model.S.
extern "C" const std::byte narwhal_model_begin[];
extern "C" const std::byte narwhal_model_end[];

namespace narwhal {

std::span<const std::byte> embedded_model() { return {narwhal_model_begin, narwhal_model_end}; }

}  // namespace narwhal
