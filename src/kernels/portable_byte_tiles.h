// Products of bytes that lanes hold (portable.h), on matrix units that take tiles of bytes.
//
// To them lane l holds rows l / 4 and l / 4 + 8 of 16 x 32 weights and of the columns an eighth in
// either half, by t = l % 4. The inputs of the lanes of one t are in columns 2 t (high) and 2 t + 1
// (low) of the 32 x 8 tile and all else there is zero: so every lane gets its own sums, and lanes
// with l / 4 = 2 t and 2 t + 1 bring the inputs, the others zeros, which they find in one place.
#pragma once

namespace narwhal {
namespace kernels {

struct InputLanes {
  const uint32_t* at;
  int step;  // 0 where there are zeros
};
struct ByteInputs {
  Word4 q;
};

k_fn InputLanes input_lanes(const Group& g, const uint32_t* high, const uint32_t* low,
                            const uint32_t* zeros) {
  const bool brings = g.lane / 8 == g.lane % 4;
  return {!brings ? zeros : g.lane & 4 ? low : high, brings ? 1 : 0};
}
k_fn InputLanes skip_inputs(const InputLanes& lanes, int words) {
  return {lanes.at + words * lanes.step, lanes.step};
}
k_fn void load_inputs(const InputLanes& lanes, int after, ByteInputs& in) {
  in.q = k_load4(lanes.at + after);
}
k_fn void dot_lanes(const Group& g, const uint32_t (&a)[4], const uint32_t (&b)[4],
                    const ByteInputs& in, int (&sums)[4]) {
  k_unroll for (int i = 0; i < 4; i += 2) {
    const uint32_t weights[4] = {a[i], b[i], a[i + 1], b[i + 1]};
    const uint32_t inputs[2] = {in.q.v[i], in.q.v[i + 1]};
    g.mma_bytes(sums, weights, inputs);
  }
}

}  // namespace kernels
}  // namespace narwhal
