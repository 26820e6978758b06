// The keywords of one schema object, without those that combine schemas.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "grammar/formats.h"
#include "grammar/regex.h"
#include "grammar/schema_facts.h"

namespace narwhal::grammar {
namespace {

constexpr size_t kMaxProperties = 4096;

unsigned type_named(std::string_view name) {
  constexpr std::pair<std::string_view, unsigned> kNames[] = {
      {"null", kNull},     {"boolean", kBoolean}, {"integer", kInteger}, {"number", kNumber},
      {"string", kString}, {"array", kArray},     {"object", kObject}};
  for (const auto& [known, type] : kNames)
    if (known == name) return type;
  return 0;
}

// A count as the keywords minLength, maxItems ... have it: 2 or 2.0.
Status read_count(const Json& schema, std::string_view keyword, uint64_t& out) {
  const Json* value = schema.find(keyword);
  if (!value) return ok_status();
  const auto d = value->is_number() ? Decimal::parse(value->text) : Result<Decimal>(usage(""));
  if (!d.ok() || !d->is_integer() || d->is_negative || d->whole.size() > 9)
    return usage(fmt::format("{}: expected a whole number below 1000000000", keyword));
  out = d->is_zero() ? 0 : std::stoull(d->whole);
  return ok_status();
}

}  // namespace

Result<Facts> SchemaReader::own_facts(const Json& schema) {
  Facts facts;
  if (const Json* type = schema.find("type")) {
    facts.types = 0;
    const std::vector<Json> one_type = {*type};
    for (const Json& name : type->is_array() ? type->items : one_type) {
      const unsigned t = name.is_string() ? type_named(name.text) : 0;
      if (t == 0) return at(schema, "type", "expected names of JSON types");
      facts.types |= t;
    }
  }
  if (schema["nullable"].as_bool()) facts.types |= kNull;
  if (const Json* values = schema.find("enum")) {
    if (!values->is_array()) return at(schema, "enum", "expected an array");
    facts.values.emplace();
    for (const Json& v : values->items) facts.values->push_back(&v);
  }
  if (const Json* value = schema.find("const")) {
    const bool is_in_enum =
        !facts.values || std::any_of(facts.values->begin(), facts.values->end(),
                                     [&](const Json* v) { return json_equal(*v, *value); });
    facts.values.emplace();
    if (is_in_enum) facts.values->push_back(value);
  }
  for (const Status& s : {read_string(schema, facts), read_number(schema, facts),
                          read_array(schema, facts), read_object(schema, facts)})
    if (!s.ok()) return s;
  return facts;
}

Status SchemaReader::read_string(const Json& schema, Facts& facts) {
  uint64_t min = 0, max = StringBounds::kNoLimit;
  for (const Status& s :
       {read_count(schema, "minLength", min), read_count(schema, "maxLength", max)})
    if (!s.ok()) return s.within("schema " + path_of({&schema}));
  facts.length = {static_cast<int64_t>(min), static_cast<int64_t>(max)};
  if (const Json* pattern = schema.find("pattern")) {
    if (!pattern->is_string()) return at(schema, "pattern", "expected a string");
    const auto regex = parse_regex(pattern->text);
    if (!regex.ok()) return at(schema, "pattern", regex.status().message());
    facts.patterns.push_back(pattern->text);
  }
  if (const Json* format = schema.find("format")) {
    if (!format->is_string()) return at(schema, "format", "expected a string");
    const Status s = read_format(format->text, facts);
    if (!s.ok()) return at(schema, "format", s.message());
  }
  return ok_status();
}

Status SchemaReader::read_format(const std::string& format, Facts& facts) {
  IntegerFormat integer;
  if (format == "float" || format == "double") return ok_status();
  if (find_integer_format(format, integer)) {
    NumberBounds b;
    b.is_integer = true;
    NW_ASSIGN(Decimal low, Decimal::parse(integer.low));
    NW_ASSIGN(Decimal high, Decimal::parse(integer.high));
    b.low = {std::move(low)};
    b.high = {std::move(high)};
    facts.number.intersect(b);
    return ok_status();
  }
  const std::string_view pattern = format_pattern(format);
  if (pattern.empty()) return usage(fmt::format("format '{}' is not supported; remove it", format));
  facts.patterns.emplace_back(pattern);
  return ok_status();
}

Status SchemaReader::read_number(const Json& schema, Facts& facts) {
  NumberBounds b;
  const auto bound_of = [&](std::string_view keyword) -> Result<Decimal> {
    const Json& value = schema[keyword];
    if (!value.is_number()) return at(schema, keyword, "expected a number");
    auto d = Decimal::parse(value.text);
    if (!d.ok()) return at(schema, keyword, d.status().message());
    return d;
  };
  const auto read_side = [&](std::string_view keyword, std::string_view open_keyword,
                             bool is_low) -> Status {
    const Json* open = schema.find(open_keyword);
    const auto add = [&](Decimal value, bool is_open) {
      NumberBounds side;
      (is_low ? side.low : side.high) = {std::move(value), is_open};
      b.intersect(side);
    };
    if (schema.find(keyword)) {
      NW_ASSIGN(Decimal d, bound_of(keyword));
      add(std::move(d), open && open->as_bool());
    }
    if (open && !open->is_bool()) {
      NW_ASSIGN(Decimal d, bound_of(open_keyword));
      add(std::move(d), true);
    }
    return ok_status();
  };
  NW_TRY(read_side("minimum", "exclusiveMinimum", true));
  NW_TRY(read_side("maximum", "exclusiveMaximum", false));
  if (schema.find("multipleOf")) {
    NW_ASSIGN(Decimal d, bound_of("multipleOf"));
    if (d.is_zero() || d.is_negative) return at(schema, "multipleOf", "expected a number above 0");
    b.multiples_of.push_back(std::move(d));
  }
  facts.number.intersect(b);
  return ok_status();
}

Status SchemaReader::read_array(const Json& schema, Facts& facts) {
  for (const Status& s : {read_count(schema, "minItems", facts.min_items),
                          read_count(schema, "maxItems", facts.max_items)})
    if (!s.ok()) return s.within("schema " + path_of({&schema}));
  const Json* items = schema.find("items");
  const Json* prefix = schema.find("prefixItems");
  std::string_view prefix_keyword = "prefixItems";
  const bool is_tuple = items && items->is_array();  // up to 2019-09
  if (is_tuple) {
    if (prefix) return at(schema, "items", "expected a schema beside prefixItems");
    prefix = items;
    prefix_keyword = "items";
    items = schema.find("additionalItems");
  }
  if (prefix && !prefix->is_array()) return at(schema, "prefixItems", "expected an array");
  for (size_t i = 0; prefix && i < prefix->items.size(); i++)
    facts.prefix.push_back(one(schema, fmt::format("{}/{}", prefix_keyword, i), prefix->items[i]));
  if (items) facts.items = one(schema, is_tuple ? "additionalItems" : "items", *items);
  return ok_status();
}

Status SchemaReader::read_object(const Json& schema, Facts& facts) {
  for (const Status& s : {read_count(schema, "minProperties", facts.min_members),
                          read_count(schema, "maxProperties", facts.max_members)})
    if (!s.ok()) return s.within("schema " + path_of({&schema}));
  if (const Json* properties = schema.find("properties")) {
    if (!properties->is_object()) return at(schema, "properties", "expected an object");
    if (properties->members.size() > kMaxProperties)
      return at(schema, "properties", fmt::format("more than {} properties", kMaxProperties));
    for (const auto& [name, value] : properties->members)
      facts.properties.push_back({name, one(schema, "properties/" + name, value)});
  }
  if (const Json* required = schema.find("required")) {
    if (!required->is_array()) return at(schema, "required", "expected an array of names");
    for (const Json& name : required->items) {
      if (!name.is_string()) return at(schema, "required", "expected an array of names");
      if (facts.required.size() > kMaxProperties)
        return at(schema, "required", fmt::format("more than {} properties", kMaxProperties));
      if (std::find(facts.required.begin(), facts.required.end(), name.text) ==
          facts.required.end())
        facts.required.push_back(name.text);
    }
  }
  if (const Json* additional = schema.find("additionalProperties")) {
    const bool is_plain = additional->is_bool() || additional->is_object();
    if (!is_plain) return at(schema, "additionalProperties", "expected a schema");
    facts.additional = one(schema, "additionalProperties", *additional);
  }
  return ok_status();
}

}  // namespace narwhal::grammar
