// Four floats or integers side by side, with the operators of the language (a GCC and Clang
// extension that maps to SSE2 and NEON). Comparisons give masks; mask ? a : b chooses per lane.
#pragma once

#include <cstdint>

namespace narwhal::quant {

inline constexpr int kLanes = 4;
using F4 = float __attribute__((vector_size(16)));
using I4 = int32_t __attribute__((vector_size(16)));

inline F4 splat(float v) { return F4{v, v, v, v}; }
inline I4 splat(int32_t v) { return I4{v, v, v, v}; }
inline F4 to_float(I4 v) { return __builtin_convertvector(v, F4); }
inline bool any(I4 mask) { return (mask[0] | mask[1] | mask[2] | mask[3]) != 0; }

}  // namespace narwhal::quant
