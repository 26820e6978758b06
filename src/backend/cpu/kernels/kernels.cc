#include "backend/cpu/kernels/kernels.h"

#include "base/check.h"
#include "quant/iq2_xxs.h"

namespace narwhal::cpu {

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels, kAvx512Kernels;
#ifdef NARWHAL_AMX
extern const Kernels kAmxKernels;
#endif
#elif defined(__aarch64__)
extern const Kernels kNeonKernels, kI8mmKernels;
#endif

const Kernels& kernels(Level level) {
  switch (level) {
    case Level::kPortable:
      return kPortableKernels;
#if defined(__x86_64__)
    case Level::kAvx2:
      return kAvx2Kernels;
    case Level::kAvx512:
      return kAvx512Kernels;
#ifdef NARWHAL_AMX
    case Level::kAmx:
      return kAmxKernels;
#endif
#elif defined(__aarch64__)
    case Level::kNeon:
      return kNeonKernels;
    case Level::kI8mm:
      return kI8mmKernels;
#endif
    default:
      NW_CHECK(false, "level {} is not built in", level_name(level));
  }
}

ActKind act_kind(DType t) {
  switch (t) {
    case DType::kQ8_0:
    case DType::kMXFP4:
      return ActKind::kInt16;
    case DType::kQ4_K:
    case DType::kQ2_K:
    case DType::kIQ2_XXS:
      return ActKind::kInt8;
    default:
      return ActKind::kF32;
  }
}

ActLayout::ActLayout(ActKind kind, int64_t n, bool planes) {
  const auto align = [](int64_t v) { return (v + 63) / 64 * 64; };
  switch (kind) {
    case ActKind::kF32:
      stride = 4 * n;
      return;
    case ActKind::kInt16:
      scale = align(2 * n);
      stride = scale + align(n / 8);
      if (!planes) return;
      hi = stride;
      lo = hi + align(n);
      stride = lo + align(n);
      return;
    case ActKind::kInt8:
      start = align(n);
      sum16 = start + align(n / 8);
      sum32 = sum16 + align(n / 8);
      scale = sum32 + align(n / 16);
      stride = scale + align(n / 64);
      return;
  }
}

const Iq2Tables& iq2_tables() {
  static const Iq2Tables tables = [] {
    Iq2Tables t = {};
    for (int i = 0; i < 256; i++) {
      const uint64_t grid = quant::kIq2XxsGrid[i];
      t.grid[i] = grid + 0x4040404040404040u;
      for (int e = 0; e < 8; e++) {
        const uint64_t byte = grid >> 8 * e & 255;
        const int code = byte == 8 ? 0 : byte == 25 ? 1 : 2;
        t.codes[e / 4][i] = static_cast<uint8_t>(t.codes[e / 4][i] | code << 2 * (e % 4));
      }
    }
    for (uint32_t s = 0; s < 128; s++) {
      t.signs[s] = quant::iq2_xxs_signs(s);
      for (int e = 0; e < 8; e++) {
        const uint64_t negative = t.signs[s] >> e & 1;
        t.flip[s] |= negative * 0x7f << 8 * e;
        t.one[s] |= negative << 8 * e;
      }
    }
    return t;
  }();
  return tables;
}

}  // namespace narwhal::cpu
