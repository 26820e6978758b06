// Rotary frequencies (model section 5): one per pair of the rope dimensions.
//
//   sliding layers      f_i = base^(-2i / rope)
//   compressed layers   the same with their own base, slowed by YaRN where a turn is longer than
//   the
//                       context the model was first trained on; no magnitude factor
#pragma once

#include <vector>

#include "model/config.h"

namespace narwhal {

std::vector<float> sliding_rope_freq(const Config& config);     // [rope_dim / 2]
std::vector<float> compressed_rope_freq(const Config& config);  // [rope_dim / 2]

}  // namespace narwhal
