#include "serve/random_id.h"

#include <array>
#include <random>

namespace narwhal::serve {

std::string random_hex(int n_bytes) {
  // The system's generator, not a seeded one.
  thread_local std::random_device device;
  std::string out;
  for (int left = n_bytes; left > 0;) {
    const unsigned bits = device();
    for (int k = 0; k < 4 && left > 0; k++, left--) {
      constexpr char kDigits[] = "0123456789abcdef";
      out += kDigits[bits >> (8 * k + 4) & 15];
      out += kDigits[bits >> (8 * k) & 15];
    }
  }
  return out;
}

}  // namespace narwhal::serve
