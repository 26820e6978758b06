#if defined(__x86_64__)
#include "backend/cpu/kernels/vec_avx512.h"
// The vocabulary first: the bodies are templates over it.
#include "backend/cpu/kernels/body_vector.h"
#include "backend/cpu/kernels/stream_avx512.h"

namespace narwhal::cpu {

extern const Kernels kAvx512Kernels;
const Kernels kAvx512Kernels = Vector<Avx512>::table();

}  // namespace narwhal::cpu
#endif
