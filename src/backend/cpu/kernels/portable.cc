#include "backend/cpu/kernels/vec_portable.h"
// The vocabulary first: the bodies are templates over it.
#include "backend/cpu/kernels/body_vector.h"

namespace narwhal::cpu {

extern const Kernels kPortableKernels;
const Kernels kPortableKernels = Vector<Portable>::table();

}  // namespace narwhal::cpu
