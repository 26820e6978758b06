#if defined(__aarch64__)
#include "backend/cpu/kernels/vec_neon.h"
// The vocabulary first: the bodies are templates over it.
#include "backend/cpu/kernels/body_vector.h"

namespace narwhal::cpu {

extern const Kernels kNeonKernels;
const Kernels kNeonKernels = Vector<Neon>::table();

}  // namespace narwhal::cpu
#endif
