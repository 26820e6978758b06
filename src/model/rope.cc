#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace narwhal {

std::vector<float> sliding_rope_freq(const Config& config) {
  std::vector<float> freq(config.rope_dim / 2);
  for (size_t i = 0; i < freq.size(); i++)
    freq[i] =
        static_cast<float>(std::pow(double(config.rope_base), -2.0 * double(i) / config.rope_dim));
  return freq;
}

std::vector<float> compressed_rope_freq(const Config& config) {
  const double rope = config.rope_dim, base = config.compress_rope_base;
  // The pair index whose wavelength makes `turns` turns within the original context.
  const auto correction = [&](double turns) {
    return rope * std::log(double(config.yarn_original_ctx) / (2 * std::numbers::pi * turns)) /
           (2 * std::log(base));
  };
  const double low = std::max(std::floor(correction(config.yarn_beta_fast)), 0.0);
  const double high = std::min(std::ceil(correction(config.yarn_beta_slow)), rope - 1);
  const double span = high == low ? 0.001 : high - low;
  std::vector<float> freq(config.rope_dim / 2);
  for (size_t i = 0; i < freq.size(); i++) {
    const double f = std::pow(base, -2.0 * double(i) / rope);
    const double ramp = std::clamp((double(i) - low) / span, 0.0, 1.0);
    freq[i] = static_cast<float>(f / config.yarn_factor * ramp + f * (1 - ramp));
  }
  return freq;
}

}  // namespace narwhal
