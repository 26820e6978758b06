#if defined(__x86_64__)
#include "backend/cpu/kernels/vec_avx2.h"
// The vocabulary first: the bodies are templates over it.
#include "backend/cpu/kernels/body_vector.h"

namespace narwhal::cpu {

extern const Kernels kAvx2Kernels;
const Kernels kAvx2Kernels = Vector<Avx2>::table();

}  // namespace narwhal::cpu
#endif
