#include "backend/cpu/kernels/level.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#if defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace narwhal::cpu {
namespace {

constexpr std::string_view kNames[] = {"portable", "avx2", "avx512", "amx", "neon", "i8mm"};

#if defined(__x86_64__)
#if defined(__linux__) && defined(NARWHAL_AMX)
// Tile registers are switched on per process: the kernel must make room for them.
bool request_tiles() {
  constexpr int kArchReqXcompPerm = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
}

// CPUID leaf 7: AMX-TILE (EDX 24) and AMX-INT8 (EDX 25).
bool has_amx() {
  unsigned a = 7, b = 0, c = 0, d = 0;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return (d >> 24 & 1) != 0 && (d >> 25 & 1) != 0;
}
#endif

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bitalg") &&
         __builtin_cpu_supports("gfni");
}
#endif

std::vector<Level> detect() {
  std::vector<Level> levels = {Level::kPortable};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return levels;
  levels.push_back(Level::kAvx2);  // every processor with AVX2 and FMA has F16C
  if (!has_avx512()) return levels;
  levels.push_back(Level::kAvx512);
#if defined(__linux__) && defined(NARWHAL_AMX)
  if (has_amx() && request_tiles()) levels.push_back(Level::kAmx);
#endif
#elif defined(__aarch64__) && defined(__linux__)
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) == 0) return levels;
  levels.push_back(Level::kNeon);
  if ((getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0) levels.push_back(Level::kI8mm);
#elif defined(__aarch64__) && defined(__APPLE__)
  levels.push_back(Level::kNeon);  // since the first Apple silicon
  int has_i8mm = 0;
  size_t size = sizeof has_i8mm;
  if (sysctlbyname("hw.optional.arm.FEAT_I8MM", &has_i8mm, &size, nullptr, 0) == 0 && has_i8mm != 0)
    levels.push_back(Level::kI8mm);
#endif
  return levels;
}

}  // namespace

std::string_view level_name(Level level) { return kNames[static_cast<int>(level)]; }

const std::vector<Level>& available_levels() {
  static const std::vector<Level> levels = detect();
  return levels;
}

Result<Level> find_level(const std::string& name) {
  const auto& levels = available_levels();
  if (name.empty() || name == "auto") return levels.back();
  std::vector<std::string_view> names;
  for (const Level level : levels) {
    if (level_name(level) == name) return level;
    names.push_back(level_name(level));
  }
  return usage(fmt::format("--cpu-level {}: not available on this machine; choose auto, {}", name,
                           fmt::join(names, ", ")));
}

}  // namespace narwhal::cpu
