// Random choices that are the same on every platform: what a case generator draws from.
//
//   Dice dice(seed, "tools/one");      // a stream of its own per name
//   dice.pick(kNames);  dice.chance(0.3);  dice.between(2, 5);
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "sample/random.h"

namespace narwhal::eval {

class Dice {
 public:
  Dice(uint64_t seed, std::string_view stream) : seed_(seed) {
    for (const unsigned char c : stream) seed_ = sample::random_bits(seed_, c);
  }

  double unit() { return sample::random_unit(seed_, n_++); }  // in [0, 1)
  bool chance(double p) { return unit() < p; }
  int below(int n) { return static_cast<int>(unit() * n); }               // in [0, n)
  int between(int low, int high) { return low + below(high - low + 1); }  // both included
  template <class T>
  const T& pick(std::span<const T> items) {
    return items[below(static_cast<int>(items.size()))];
  }
  template <class T>
  const T& pick(const std::vector<T>& items) {
    return pick(std::span<const T>(items));
  }
  template <class T, size_t N>
  const T& pick(const T (&items)[N]) {
    return pick(std::span<const T>(items));
  }
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; i--)
      std::swap(items[i - 1], items[below(static_cast<int>(i))]);
  }
  // `count` different positions of `items`.
  template <class T>
  std::vector<T> some(std::span<const T> items, int count) {
    std::vector<T> all(items.begin(), items.end());
    shuffle(all);
    all.resize(static_cast<size_t>(count));
    return all;
  }

 private:
  uint64_t seed_, n_ = 0;
};

}  // namespace narwhal::eval
