// Random numbers that are the same on every platform and standard library.
//
// splitmix64 (Steele, Lea, Flood 2014) read as a function: number k of a stream is the mixed value
// of seed + k * golden ratio. Being addressed by index, a stream needs no state to be rewound.
#pragma once

#include <cstdint>

namespace narwhal::sample {

constexpr uint64_t random_bits(uint64_t seed, uint64_t index) {
  uint64_t x = seed + (index + 1) * 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// In [0, 1), a multiple of 2^-53.
constexpr double random_unit(uint64_t seed, uint64_t index) {
  return static_cast<double>(random_bits(seed, index) >> 11) * 0x1p-53;
}

}  // namespace narwhal::sample
