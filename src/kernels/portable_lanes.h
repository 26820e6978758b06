// Products of bytes that lanes hold (portable.h), for targets whose matrix units take no bytes or
// deal them otherwise.
#pragma once

namespace narwhal {
namespace kernels {

struct InputLanes {
  k_shared const uint32_t *high, *low;
};
struct ByteInputs {
  uint32_t high[4], low[4];
};

k_fn InputLanes input_lanes(k_private const Group&, k_shared const uint32_t* high,
                            k_shared const uint32_t* low, k_shared const uint32_t*) {
  return {high, low};
}
k_fn InputLanes skip_inputs(k_private const InputLanes& lanes, int words) {
  return {lanes.high + words, lanes.low + words};
}
k_fn void load_inputs(k_private const InputLanes& lanes, int after, k_private ByteInputs& in) {
  const Word4 high = k_load4(lanes.high + after);
  const Word4 low = k_load4(lanes.low + after);
  for (int i = 0; i < 4; i++) {
    in.high[i] = high.v[i];
    in.low[i] = low.v[i];
  }
}
k_fn void dot_lanes(k_private const Group&, k_private const uint32_t (&a)[4],
                    k_private const uint32_t (&b)[4], k_private const ByteInputs& in,
                    k_private int (&sums)[4]) {
  k_unroll for (int i = 0; i < 4; i++) {
    sums[0] = k_dot4(a[i], in.high[i], sums[0]);
    sums[1] = k_dot4(a[i], in.low[i], sums[1]);
    sums[2] = k_dot4(b[i], in.high[i], sums[2]);
    sums[3] = k_dot4(b[i], in.low[i], sums[3]);
  }
}

}  // namespace kernels
}  // namespace narwhal
