// The backends that run the shared kernels: the emulator, and the GPU where there is one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace narwhal {

inline bool is_gpu(const std::string& backend) {
  return backend == "cuda" || backend == "hip" || backend == "metal";
}

inline std::vector<std::string> kernel_backends() {
  std::vector<std::string> names = {"emu"};
  for (const std::string& name : backend_names())
    if (is_gpu(name) && make_backend(name, {}).ok()) names.push_back(name);
  return names;
}

// Whether kernels run on the CPU, where a few hundred rows of a model take minutes.
inline bool is_emulated(const std::string& backend) {
#ifdef NARWHAL_FAKE_METAL
  if (backend == "metal") return true;
#endif
#ifdef NARWHAL_FAKE_CUDA
  if (backend == "cuda") return true;
#endif
  return backend == "emu";
}

// make_backend for tests that hand vectors to ops and look at results at once. The programs' heap
// is memory that the GPU sees (arena.h); where it has other addresses there, ops translate them
// (metal_arena.cc).
#ifdef NARWHAL_METAL
Result<std::unique_ptr<Backend>> make_test_backend(const std::string& name,
                                                   const BackendOptions& options);
#else
inline Result<std::unique_ptr<Backend>> make_test_backend(const std::string& name,
                                                          const BackendOptions& options) {
  return make_backend(name, options);
}
#endif

}  // namespace narwhal
