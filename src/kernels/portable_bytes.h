// Operations on the bytes of a word for targets without instructions for them.
#pragma once

namespace narwhal {
namespace kernels {

// sum + a . b over four signed bytes.
k_fn int k_dot4(uint32_t a, uint32_t b, int sum) {
  for (int i = 0; i < 4; i++) sum += int(int8_t(a >> 8 * i)) * int(int8_t(b >> 8 * i));
  return sum;
}
// base[32 * byte i of w]
k_fn uint32_t k_lookup(k_shared const uint32_t* base, uint32_t w, int i) {
  return base[32u * (w >> 8 * i & 255u)];
}
// Byte i of the result is the byte of {low, high} that nibble i of the selector names.
k_fn uint32_t k_permute(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t out = 0;
  for (int i = 0; i < 4; i++) {
    const uint32_t from = selector >> 4 * i & 7u;
    out |= ((from < 4u ? low : high) >> 8 * (from & 3u) & 255u) << 8 * i;
  }
  return out;
}

// value
k_fn int k_after(int value, uint32_t) { return value; }

}  // namespace kernels
}  // namespace narwhal
