#include "serve/api/fields.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "serve/tool_table.h"

namespace narwhal::serve {
namespace {

const Json kNothing;

std::string shown(const Json& value) {
  std::string text = value.dump();
  if (text.size() <= 60) return text;
  // Cut at a character's end.
  size_t n = 57;
  while (n > 0 && (static_cast<unsigned char>(text[n]) & 0xC0) == 0x80) n--;
  return text.substr(0, n) + "...";
}

}  // namespace

void Fields::fault(std::string_view name, std::string_view message) {
  if (status_.ok()) status_ = bad_input(fmt::format("{}{}: {}", prefix_, name, message));
}

void Fields::expected(std::string_view name, std::string_view what) {
  fault(name, fmt::format("found {}, expected {}", shown(json_[name]), what));
}

int64_t Fields::integer(std::string_view name, int64_t fallback, int64_t least, int64_t most) {
  const Json& j = json_[name];
  if (j.is_null()) return fallback;
  const double v = j.as_double(std::nan(""));
  if (!j.is_number() || v != std::floor(v) || v < double(least) || v > double(most)) {
    expected(name, most == std::numeric_limits<int64_t>::max()
                       ? fmt::format("a whole number, {} or more", least)
                       : fmt::format("a whole number from {} to {}", least, most));
    return fallback;
  }
  const int64_t exact = j.as_int(std::numeric_limits<int64_t>::min());
  return exact == std::numeric_limits<int64_t>::min() && std::abs(v) < 9e18
             ? static_cast<int64_t>(v)
             : exact;
}

double Fields::number(std::string_view name, double fallback, double least, double most) {
  const Json& j = json_[name];
  if (j.is_null()) return fallback;
  const double v = j.as_double(std::nan(""));
  if (j.is_number() && v >= least && v <= most) return v;
  expected(name, fmt::format("a number from {} to {}", least, most));
  return fallback;
}

bool Fields::boolean(std::string_view name, bool fallback) {
  const Json& j = json_[name];
  if (j.is_null()) return fallback;
  if (!j.is_bool()) expected(name, "true or false");
  return j.as_bool(fallback);
}

std::string Fields::text(std::string_view name, std::string_view fallback) {
  const Json& j = json_[name];
  if (j.is_null()) return std::string(fallback);
  if (!j.is_string()) expected(name, "a string");
  return j.text;
}

const Json& Fields::object(std::string_view name) {
  const Json& j = json_[name];
  if (j.is_null() || j.is_object()) return j;
  expected(name, "an object");
  return kNothing;
}

const Json& Fields::array(std::string_view name) {
  const Json& j = json_[name];
  if (j.is_null() || j.is_array()) return j;
  expected(name, "an array");
  return kNothing;
}

void Fields::only_default(std::string_view name, const Json& value) {
  const Json& j = json_[name];
  if (!j.is_null() && !json_equal(j, value))
    fault(name, fmt::format("{} is not supported; leave it out", shown(j)));
}

}  // namespace narwhal::serve
