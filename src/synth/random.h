// Random bits for synthetic weights: eight interleaved xoshiro256+ generators, so that fill()
// compiles to vector code and costs less than writing its bytes to memory.
//
//   Rng rng(mix64(seed ^ tensor_hash));
//   rng.fill(block, n_bytes);
//
// The stream depends on the seed only. Not for secrets.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace narwhal::synth_detail {

// The finaliser of splitmix64: a bijection that spreads every input bit over all output bits.
inline uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

inline uint64_t hash64(std::string_view text) {
  uint64_t h = text.size();
  for (const unsigned char c : text) h = mix64(h ^ c);
  return h;
}

class Rng {
 public:
  explicit Rng(uint64_t seed) {
    for (auto& word : state_)
      for (uint64_t& lane : word) lane = seed = mix64(seed);
  }

  void fill(void* destination, size_t n_bytes) {
    auto* p = static_cast<unsigned char*>(destination);
    uint64_t out[kLanes];
    for (; n_bytes >= sizeof out; p += sizeof out, n_bytes -= sizeof out) {
      step(out);
      std::memcpy(p, out, sizeof out);
    }
    if (n_bytes == 0) return;
    step(out);
    std::memcpy(p, out, n_bytes);
  }

  uint64_t next() {
    if (used_ == kLanes) {
      step(buffer_);
      used_ = 0;
    }
    return buffer_[used_++];
  }

  // In [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // Mean 0, standard deviation 1.
  double normal() {
    const double u = uniform() + 0x1p-54;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * uniform());
  }
  // In [0, n).
  uint32_t below(uint32_t n) { return static_cast<uint32_t>((next() >> 32) * n >> 32); }

 private:
  static constexpr int kLanes = 8;

  void step(uint64_t* out) {
    auto& s = state_;
    for (int i = 0; i < kLanes; i++) {
      out[i] = s[0][i] + s[3][i];
      const uint64_t t = s[1][i] << 17;
      s[2][i] ^= s[0][i];
      s[3][i] ^= s[1][i];
      s[1][i] ^= s[2][i];
      s[0][i] ^= s[3][i];
      s[2][i] ^= t;
      s[3][i] = (s[3][i] << 45) | (s[3][i] >> 19);
    }
  }

  uint64_t state_[4][kLanes];
  uint64_t buffer_[kLanes] = {};
  int used_ = kLanes;
};

}  // namespace narwhal::synth_detail
