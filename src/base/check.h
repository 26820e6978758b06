// NW_CHECK(condition, "format {}", values...): programmer faults abort and print the values
// involved. Never reachable from user input: bad files, options and requests return a Status.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace narwhal {

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view message);

}  // namespace narwhal

#define NW_CHECK(condition, ...)                                                           \
  do {                                                                                     \
    if (!(condition)) [[unlikely]]                                                         \
      ::narwhal::check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (0)
