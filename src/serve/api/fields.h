// Members of a request body, checked. Null counts as absent. The first fault is kept; its message
// begins with the path of the member, which becomes "param" in the error that the client gets.
//
//   Fields in(body);
//   const double t = in.number("temperature", 1.0, 0, 100);
//   NW_TRY(in.status());      // "temperature: found \"hot\", expected a number"
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"
#include "narwhal/status.h"

namespace narwhal::serve {

class Fields {
 public:
  explicit Fields(const Json& object, std::string prefix = "")
      : json_(object), prefix_(std::move(prefix)) {}

  bool has(std::string_view name) const { return !json_[name].is_null(); }
  const Json& operator[](std::string_view name) const { return json_[name]; }

  int64_t integer(std::string_view name, int64_t fallback, int64_t least, int64_t most);
  double number(std::string_view name, double fallback, double least, double most);
  bool boolean(std::string_view name, bool fallback);
  std::string text(std::string_view name, std::string_view fallback = "");
  // Null when absent.
  const Json& object(std::string_view name);
  const Json& array(std::string_view name);

  // The member, if there, must be this one value or it is refused.
  void only_default(std::string_view name, const Json& value);
  void fault(std::string_view name, std::string_view message);
  const Status& status() const { return status_; }

 private:
  void expected(std::string_view name, std::string_view what);
  const Json& json_;
  std::string prefix_;
  Status status_;
};

}  // namespace narwhal::serve
