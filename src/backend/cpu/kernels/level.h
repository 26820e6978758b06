// Levels of instruction sets that the CPU kernels are built for.
//
//   portable   any machine; what the compiler makes of plain loops
//   avx2       AVX2, FMA, F16C
//   avx512     AVX-512 F, BW, DQ, VL, VBMI, VBMI2, BITALG and VNNI, and GFNI: Ice Lake, Zen 4
//              and later
//   amx        avx512 and AMX-INT8 tiles
//   neon       AArch64 with dot products
//   i8mm       neon and products of 8-bit matrices: Neoverse V1 and N2, Apple M2 and later
//
// Products of quantised weights are the same bits at every level; sums of f32 products are fused
// where the level can, so those differ in rounding between portable and the others.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "narwhal/status.h"

namespace narwhal::cpu {

enum class Level { kPortable, kAvx2, kAvx512, kAmx, kNeon, kI8mm };

std::string_view level_name(Level level);

// Levels that are built in and that this machine can run, the fastest last; never empty.
const std::vector<Level>& available_levels();

// "auto" or empty: the fastest. kUsage for a name that is unknown or not available here; the
// message lists those that are.
Result<Level> find_level(const std::string& name);

}  // namespace narwhal::cpu
