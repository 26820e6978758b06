#if defined(__x86_64__)
#include "backend/cpu/kernels/vec_avx512.h"
// The vocabulary first: the bodies are templates over it.
#include "backend/cpu/kernels/body_vector.h"
#include "backend/cpu/kernels/stream_avx512.h"

namespace narwhal::cpu {
namespace {

// A type of this file alone: GCC then sees that nobody else calls its templates and inlines the
// loops over blocks, which is worth a third.
struct Local : Avx512 {};

}  // namespace

extern const Kernels kAvx512Kernels;
const Kernels kAvx512Kernels = Vector<Local>::table();

}  // namespace narwhal::cpu
#endif
