// A JSON Schema validator for tests: short, slow and unlike the library's own reading of schemas.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
// g++ 12 with sanitizers sees uninitialised functions inside std::regex.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <algorithm>
#include <cmath>
#include <regex>
#include <string>

#include "base/json.h"

namespace narwhal::grammar {

class Checker {
 public:
  explicit Checker(const Json& document) : document_(document) {}

  bool valid(const Json& value) const { return valid(document_, value); }

 private:
  static size_t length(const std::string& s) {
    return static_cast<size_t>(
        std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  }
  static bool is(const std::string& type, const Json& v) {
    if (type == "integer") return v.is_number() && std::floor(v.as_double()) == v.as_double();
    return (type == "null" && v.is_null()) || (type == "boolean" && v.is_bool()) ||
           (type == "number" && v.is_number()) || (type == "string" && v.is_string()) ||
           (type == "array" && v.is_array()) || (type == "object" && v.is_object());
  }
  static bool equal(const Json& a, const Json& b) {
    if (a.is_number() && b.is_number()) return a.as_double() == b.as_double();
    return a.dump() == b.dump();
  }
  static bool in_range(const Json& s, const char* low, const char* high, double n) {
    return (!s.find(low) || n >= s[low].as_double()) && (!s.find(high) || n <= s[high].as_double());
  }

  const Json& target(const std::string& pointer) const {
    const Json* at = &document_;
    for (size_t i = 1; i < pointer.size();) {
      const size_t end = std::min(pointer.find('/', i + 1), pointer.size());
      at = &(*at)[pointer.substr(i + 1, end - i - 1)];
      i = end;
    }
    return *at;
  }

  bool valid(const Json& s, const Json& v) const {
    if (s.is_bool()) return s.boolean;
    if (const Json* ref = s.find("$ref"); ref && !valid(target(ref->text), v)) return false;
    const auto holds = [&](const Json& sub) { return valid(sub, v); };
    if (const Json* all = s.find("allOf"))
      if (!std::all_of(all->items.begin(), all->items.end(), holds)) return false;
    if (const Json* any = s.find("anyOf"))
      if (std::none_of(any->items.begin(), any->items.end(), holds)) return false;
    if (const Json* one = s.find("oneOf"))
      if (std::count_if(one->items.begin(), one->items.end(), holds) != 1) return false;
    if (const Json* type = s.find("type")) {
      if (type->is_string() && !is(type->text, v)) return false;
      if (type->is_array() && std::none_of(type->items.begin(), type->items.end(),
                                           [&](const Json& t) { return is(t.text, v); }))
        return false;
    }
    if (const Json* e = s.find("enum"))
      if (std::none_of(e->items.begin(), e->items.end(),
                       [&](const Json& x) { return equal(x, v); }))
        return false;
    if (const Json* c = s.find("const"); c && !equal(*c, v)) return false;
    if (v.is_number()) return number(s, v.as_double());
    if (v.is_string()) return text(s, v.text);
    if (v.is_array()) return array(s, v);
    return !v.is_object() || object(s, v);
  }

  bool number(const Json& s, double n) const {
    if (!in_range(s, "minimum", "maximum", n)) return false;
    if (s.find("exclusiveMinimum") && n <= s["exclusiveMinimum"].as_double()) return false;
    if (s.find("exclusiveMaximum") && n >= s["exclusiveMaximum"].as_double()) return false;
    if (!s.find("multipleOf")) return true;
    const double q = n / s["multipleOf"].as_double();
    return std::abs(q - std::round(q)) <= 1e-9 * std::max(1.0, std::abs(q));
  }
  bool text(const Json& s, const std::string& t) const {
    if (!in_range(s, "minLength", "maxLength", static_cast<double>(length(t)))) return false;
    if (!s.find("pattern")) return true;
    return std::regex_search(t, std::regex(s["pattern"].text, std::regex::ECMAScript));
  }
  bool array(const Json& s, const Json& v) const {
    if (!in_range(s, "minItems", "maxItems", static_cast<double>(v.items.size()))) return false;
    const auto& prefix = s["prefixItems"].items;
    for (size_t i = 0; i < v.items.size(); i++) {
      const Json* item = i < prefix.size() ? &prefix[i] : s.find("items");
      if (item && !valid(*item, v.items[i])) return false;
    }
    return true;
  }
  bool object(const Json& s, const Json& v) const {
    if (!in_range(s, "minProperties", "maxProperties", static_cast<double>(v.members.size())))
      return false;
    for (const Json& name : s["required"].items)
      if (!v.find(name.text)) return false;
    for (const auto& [name, member] : v.members) {
      const Json* sub = s["properties"].find(name);
      if (!sub) sub = s.find("additionalProperties");
      if (sub && !valid(*sub, member)) return false;
    }
    return true;
  }

  const Json& document_;
};

}  // namespace narwhal::grammar
