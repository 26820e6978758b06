#include "serve/tool_table.h"

#include <algorithm>

namespace narwhal::serve {
namespace {

uint8_t type_by_name(std::string_view name) {
  if (name == "string") return kStringType;
  if (name == "number" || name == "integer") return kNumberType;
  if (name == "boolean") return kBoolType;
  if (name == "object") return kObjectType;
  if (name == "array") return kArrayType;
  if (name == "null") return kNullType;
  return kAnyType;
}

uint8_t types_at_depth(const Json& schema, int depth) {
  if (!schema.is_object() || depth > 8) return kAnyType;
  const Json& type = schema["type"];
  if (type.is_string()) return type_by_name(type.text);
  uint8_t all = kAnyType;
  if (type.is_array()) {
    for (const Json& t : type.items) all |= type_by_name(t.text);
    return all;
  }
  if (const Json* value = schema.find("const")) return json_type(*value);
  if (schema["enum"].is_array()) {
    for (const Json& v : schema["enum"].items) all |= json_type(v);
    return all;
  }
  for (const char* choice : {"anyOf", "oneOf"}) {
    for (const Json& s : schema[choice].items) {
      const uint8_t one = types_at_depth(s, depth + 1);
      if (one == kAnyType) return kAnyType;
      all |= one;
    }
  }
  return all;
}

}  // namespace

uint8_t schema_types(const Json& schema) { return types_at_depth(schema, 0); }

uint8_t json_type(const Json& value) {
  switch (value.kind) {
    case Json::Kind::kNull:
      return kNullType;
    case Json::Kind::kBool:
      return kBoolType;
    case Json::Kind::kNumber:
      return kNumberType;
    case Json::Kind::kString:
      return kStringType;
    case Json::Kind::kArray:
      return kArrayType;
    case Json::Kind::kObject:
      return kObjectType;
  }
  return kAnyType;
}

ToolTable::ToolTable(const std::vector<Json>& functions) {
  for (const Json& f : functions) {
    auto& parameters = parameters_[f["name"].text];
    for (const auto& [name, schema] : f["parameters"]["properties"].members)
      parameters[name] = schema_types(schema);
  }
}

std::vector<std::string> ToolTable::names() const {
  std::vector<std::string> out;
  for (const auto& [name, parameters] : parameters_) out.push_back(name);
  return out;
}

uint8_t ToolTable::types(std::string_view tool, std::string_view parameter) const {
  const auto t = parameters_.find(tool);
  if (t == parameters_.end()) return kAnyType;
  const auto p = t->second.find(parameter);
  return p == t->second.end() ? uint8_t{kAnyType} : p->second;
}

bool json_equal(const Json& a, const Json& b) {
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Json::Kind::kNull:
      return true;
    case Json::Kind::kBool:
      return a.boolean == b.boolean;
    case Json::Kind::kNumber:
      return a.text == b.text || a.as_double() == b.as_double();
    case Json::Kind::kString:
      return a.text == b.text;
    case Json::Kind::kArray:
      return std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), json_equal);
    case Json::Kind::kObject:
      if (a.members.size() != b.members.size()) return false;
      return std::all_of(a.members.begin(), a.members.end(), [&](const auto& m) {
        const Json* other = b.find(m.first);
        return other && json_equal(m.second, *other);
      });
  }
  return false;
}

}  // namespace narwhal::serve
