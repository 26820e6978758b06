// The GPU kernels on the CPU: slow, for tests and for those who write kernels.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace narwhal {

std::unique_ptr<Backend> make_emu_backend(const BackendOptions& options);

}  // namespace narwhal
