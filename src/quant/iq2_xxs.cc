#include "quant/iq2_xxs.h"

#include <bit>
#include <cstring>

#include "quant/f16.h"

namespace narwhal::quant {
namespace {

static_assert(std::endian::native == std::endian::little,
              "blocks are read as they lie in the file");

using Signs = std::array<int8_t, 8>;

constexpr std::array<Signs, 128> make_signs() {
  std::array<Signs, 128> table{};
  for (uint32_t s = 0; s < 128; ++s)
    for (int i = 0; i < 8; ++i) table[s][i] = iq2_xxs_signs(s) >> i & 1 ? -1 : 1;
  return table;
}

constexpr std::array<Signs, 128> kSigns = make_signs();

struct Group {
  uint8_t index[4];
  uint32_t signs_and_scale;

  int scale() const { return static_cast<int>(signs_and_scale >> 28); }

  // The eight signed grid bytes of sub-vector t.
  std::array<int8_t, 8> values(int t) const {
    std::array<int8_t, 8> v;
    std::memcpy(v.data(), &kIq2XxsGrid[index[t]], 8);
    const Signs& signs = kSigns[signs_and_scale >> 7 * t & 127];
    for (int i = 0; i < 8; ++i) v[i] = static_cast<int8_t>(v[i] * signs[i]);
    return v;
  }
};

Group read_group(const BlockIQ2XXS& block, int g) {
  const uint16_t* q = block.qs + 4 * g;
  return {{static_cast<uint8_t>(q[0]), static_cast<uint8_t>(q[0] >> 8), static_cast<uint8_t>(q[1]),
           static_cast<uint8_t>(q[1] >> 8)},
          uint32_t{q[2]} | uint32_t{q[3]} << 16};
}

}  // namespace

void decode_iq2_xxs(const BlockIQ2XXS* src, int64_t n_blocks, float* dst) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    const float d = f16_to_f32(src[b].d);
    for (int g = 0; g < 8; ++g) {
      const Group group = read_group(src[b], g);
      const float scale = d * (0.5f + static_cast<float>(group.scale())) * 0.25f;
      for (int t = 0; t < 4; ++t, dst += 8) {
        const auto values = group.values(t);
        for (int i = 0; i < 8; ++i) dst[i] = scale * static_cast<float>(values[i]);
      }
    }
  }
}

float dot_iq2_xxs(const BlockIQ2XXS* w, const Q8K* x, int64_t n_blocks) {
  float total = 0;
  for (int64_t b = 0; b < n_blocks; ++b) {
    int sum = 0;
    for (int g = 0; g < 8; ++g) {
      const Group group = read_group(w[b], g);
      int group_sum = 0;
      for (int t = 0; t < 4; ++t) {
        const int8_t* q8 = x[b].q + 32 * g + 8 * t;
        const auto values = group.values(t);
        for (int i = 0; i < 8; ++i) group_sum += values[i] * q8[i];
      }
      sum += (2 * group.scale() + 1) * group_sum;
    }
    total += 0.125f * f16_to_f32(w[b].d) * x[b].d * static_cast<float>(sum);
  }
  return total;
}

}  // namespace narwhal::quant
