// Level i8mm: the neon kernels, with quantised products by pairs of rows and outputs.
#if defined(__aarch64__)
#include "backend/cpu/kernels/vec_neon.h"
// The vocabulary first: the bodies are templates over it.
#include "backend/cpu/kernels/body_vector.h"
#include "backend/cpu/kernels/pairs_neon.h"

namespace narwhal::cpu {
namespace {

// Types of their own, so that no template is shared with neon.cc.
struct I8mm : Neon {
  static constexpr Level kLevel = Level::kI8mm;
  static constexpr int kTileRows = 4;  // 16 registers of sums
  static constexpr bool kPairs = true;
};
struct OneRow : Neon {};

// 8-bit activations of one row would fill half a pair, and sdot does as much; 16-bit ones gain all
// the same.
void matmul(const MatmulJob& job, int64_t begin, int64_t end, std::byte* memory) {
  if (job.n == 1 && job.kind == ActKind::kInt8)
    return Matmul<OneRow>::matmul(job, begin, end, memory);
  Matmul<I8mm>::matmul(job, begin, end, memory);
}

constexpr Kernels table() {
  Kernels k = Vector<I8mm, true>::table();
  k.matmul = matmul;
  return k;
}

}  // namespace

extern const Kernels kI8mmKernels;
const Kernels kI8mmKernels = table();

}  // namespace narwhal::cpu
#endif
