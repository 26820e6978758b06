// The values of the keyword "format", as patterns.
#pragma once

#include <string_view>

namespace narwhal::grammar {

// The pattern of a string format, in the subset of grammar/regex.h; empty when there is none.
std::string_view format_pattern(std::string_view format);

// The bounds of an integer format as JSON numbers; false when it is none.
struct IntegerFormat {
  std::string_view low, high;
};
bool find_integer_format(std::string_view format, IntegerFormat& out);

}  // namespace narwhal::grammar
