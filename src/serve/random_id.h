#pragma once

#include <string>

namespace narwhal::serve {

// 2 * n_bytes hexadecimal digits that nobody can guess (ids are keys of turn memory). Any thread.
std::string random_hex(int n_bytes);

}  // namespace narwhal::serve
