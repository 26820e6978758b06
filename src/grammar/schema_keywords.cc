#include "grammar/schema_keywords.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>

#include "base/parse_index.h"

namespace narwhal::grammar {
namespace {

constexpr std::string_view kRead[] = {"type",
                                      "enum",
                                      "const",
                                      "nullable",
                                      "properties",
                                      "required",
                                      "additionalProperties",
                                      "minProperties",
                                      "maxProperties",
                                      "items",
                                      "prefixItems",
                                      "additionalItems",
                                      "minItems",
                                      "maxItems",
                                      "minLength",
                                      "maxLength",
                                      "pattern",
                                      "format",
                                      "minimum",
                                      "maximum",
                                      "exclusiveMinimum",
                                      "exclusiveMaximum",
                                      "multipleOf",
                                      "anyOf",
                                      "allOf",
                                      "oneOf",
                                      "$ref",
                                      "$defs",
                                      "definitions"};

constexpr std::string_view kAnnotations[] = {
    "title",       "description",     "default",          "examples",      "example",
    "$schema",     "$comment",        "deprecated",       "readOnly",      "writeOnly",
    "$vocabulary", "contentEncoding", "contentMediaType", "discriminator", "externalDocs"};

// Keywords whose loss would widen what is allowed, but not with these values.
bool says_nothing(std::string_view keyword, const Json& value) {
  if (keyword == "uniqueItems") return value.is_bool() && !value.boolean;
  if (keyword == "patternProperties" || keyword == "dependencies" ||
      keyword == "dependentRequired" || keyword == "dependentSchemas")
    return value.is_object() && value.members.empty();
  if (keyword == "propertyNames" || keyword == "unevaluatedItems" ||
      keyword == "unevaluatedProperties")
    return value.is_bool() && value.boolean;
  return false;
}

std::string unescape_pointer(std::string_view step) {
  std::string out;
  for (size_t i = 0; i < step.size(); i++) {
    unsigned code = 0;
    if (step[i] == '%' && i + 2 < step.size() &&
        std::from_chars(&step[i + 1], &step[i + 1] + 2, code, 16).ptr == &step[i + 1] + 2) {
      out += static_cast<char>(code);
      i += 2;
    } else {
      out += step[i];
    }
  }
  std::string plain;
  for (size_t i = 0; i < out.size(); i++) {
    const bool is_tilde = out[i] == '~' && i + 1 < out.size();
    if (is_tilde && (out[i + 1] == '0' || out[i + 1] == '1'))
      plain += out[++i] == '0' ? '~' : '/';
    else
      plain += out[i];
  }
  return plain;
}

const Json* step_into(const Json& at, const std::string& step) {
  if (at.is_object()) return at.find(step);
  if (!at.is_array()) return nullptr;
  const auto i = parse_index(step, std::ssize(at.items));
  return i ? &at.items[static_cast<size_t>(*i)] : nullptr;
}

}  // namespace

bool is_supported_keyword(std::string_view keyword, const Json& value, bool is_root) {
  const auto is_among = [&](const auto& list) {
    return std::find(std::begin(list), std::end(list), keyword) != std::end(list);
  };
  if (is_among(kRead) || is_among(kAnnotations) || keyword.starts_with("x-")) return true;
  // Anywhere else it would change what references are relative to.
  if (keyword == "$id" || keyword == "id") return is_root;
  return says_nothing(keyword, value);
}

Result<const Json*> resolve_reference(const Json& document, std::string_view reference) {
  if (!reference.starts_with('#') || (reference.size() > 1 && reference[1] != '/'))
    return usage(fmt::format("$ref '{}' is not supported; only '#' and '#/...' are", reference));
  const Json* at = &document;
  std::string_view rest = reference.substr(1);
  while (!rest.empty()) {
    rest.remove_prefix(1);
    const size_t end = std::min(rest.find('/'), rest.size());
    at = step_into(*at, unescape_pointer(rest.substr(0, end)));
    if (!at) return usage(fmt::format("$ref '{}' leads nowhere", reference));
    rest.remove_prefix(end);
  }
  return at;
}

}  // namespace narwhal::grammar
