// The backends that run the shared kernels: the emulator, and the GPU where there is one.
#pragma once

#include <string>
#include <vector>

#include "backend/backend.h"

namespace narwhal {

inline std::vector<std::string> kernel_backends() {
  std::vector<std::string> names = {"emu"};
  for (const std::string& name : backend_names())
    if ((name == "cuda" || name == "hip") && make_backend(name, {}).ok()) names.push_back(name);
  return names;
}

}  // namespace narwhal
