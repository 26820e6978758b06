// The tools a request declares, as the reader of tool calls needs them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace narwhal::serve {

// Sets of JSON types.
enum JsonTypes : uint8_t {
  kAnyType = 0,  // the schema does not say
  kStringType = 1,
  kNumberType = 2,
  kBoolType = 4,
  kObjectType = 8,
  kArrayType = 16,
  kNullType = 32,
};

// What a schema's "type", "enum", "const" or "anyOf"/"oneOf" allow.
uint8_t schema_types(const Json& schema);
// The type of a value.
uint8_t json_type(const Json& value);

class ToolTable {
 public:
  ToolTable() = default;
  // Function objects {"name": ..., "parameters": {...}}.
  explicit ToolTable(const std::vector<Json>& functions);

  bool empty() const { return parameters_.empty(); }
  bool has(std::string_view name) const { return parameters_.find(name) != parameters_.end(); }
  std::vector<std::string> names() const;
  // Types of one parameter; kAnyType for what is not declared.
  uint8_t types(std::string_view tool, std::string_view parameter) const;

 private:
  std::map<std::string, std::map<std::string, uint8_t, std::less<>>, std::less<>> parameters_;
};

// Equal as JSON values: the order of members does not matter, numbers count by value.
bool json_equal(const Json& a, const Json& b);

}  // namespace narwhal::serve
