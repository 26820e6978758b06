#include "grammar/schema_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "grammar/formats.h"
#include "grammar/regex.h"
#include "grammar/schema_keywords.h"

namespace narwhal::grammar {
namespace {

constexpr size_t kMaxAlternatives = 512;
constexpr size_t kMaxWork = 20'000'000;  // comparisons of names and values; below a second
constexpr int kEmptyDepth = 4;           // how deep is_empty() looks

int64_t count_characters(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

unsigned type_of(const Json& value) {
  switch (value.kind) {
    case Json::Kind::kNull:
      return kNull;
    case Json::Kind::kBool:
      return kBoolean;
    case Json::Kind::kString:
      return kString;
    case Json::Kind::kArray:
      return kArray;
    case Json::Kind::kObject:
      return kObject;
    case Json::Kind::kNumber:
      break;
  }
  const auto d = Decimal::parse(value.text);
  return d.ok() && d->is_integer() ? kInteger : kFraction;
}

}  // namespace

Conjunction both(const Conjunction& a, const Conjunction& b) {
  Conjunction out = a;
  for (const Json* schema : b)
    if (std::find(a.begin(), a.end(), schema) == a.end()) out.push_back(schema);
  return out;
}

const Facts::Property* Facts::find(std::string_view name) const {
  const auto it = std::find_if(properties.begin(), properties.end(),
                               [&](const Property& p) { return p.name == name; });
  return it == properties.end() ? nullptr : &*it;
}

bool json_equal(const Json& a, const Json& b) {
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Json::Kind::kNull:
      return true;
    case Json::Kind::kBool:
      return a.boolean == b.boolean;
    case Json::Kind::kString:
      return a.text == b.text;
    case Json::Kind::kNumber: {
      const auto x = Decimal::parse(a.text), y = Decimal::parse(b.text);
      return x.ok() && y.ok() ? *x == *y : a.text == b.text;
    }
    case Json::Kind::kArray:
      return std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), json_equal);
    case Json::Kind::kObject:
      return a.members.size() == b.members.size() &&
             std::all_of(a.members.begin(), a.members.end(), [&](const auto& m) {
               const Json* other = b.find(m.first);
               return other && json_equal(m.second, *other);
             });
  }
  return false;
}

SchemaReader::SchemaReader(const Json& document) : document_(document) {
  paths_.emplace(&document_, "#");
}

std::string SchemaReader::path_of(const Conjunction& all) const {
  const auto it = all.empty() ? paths_.end() : paths_.find(all.front());
  return it == paths_.end() ? "#" : it->second;
}

Status SchemaReader::at(const Json& schema, std::string_view keyword,
                        std::string_view problem) const {
  const auto it = paths_.find(&schema);
  return usage(
      fmt::format("schema {}/{}: {}", it == paths_.end() ? "#" : it->second, keyword, problem));
}

const Json* SchemaReader::child(const Json& parent, std::string_view step, const Json& schema) {
  const auto it = paths_.find(&parent);
  paths_.emplace(&schema, fmt::format("{}/{}", it == paths_.end() ? "#" : it->second, step));
  return &schema;
}

Result<std::vector<Facts>> SchemaReader::alternatives(const Conjunction& all) {
  Alternatives out = {Facts{}};
  for (const Json* schema : all) {
    NW_ASSIGN(const Alternatives more, read(*schema));
    NW_ASSIGN(out, product(out, more));
  }
  Alternatives possible;
  for (Facts& f : out) {
    if (f.values) {
      std::vector<const Json*> fitting;
      Facts others = f;
      others.values.reset();
      for (const Json* v : *f.values) {
        NW_ASSIGN(const bool fits, holds(others, *v));
        if (fits) fitting.push_back(v);
      }
      f.values = std::move(fitting);
    }
    possible.push_back(std::move(f));
  }
  return possible;
}

Result<SchemaReader::Alternatives> SchemaReader::read(const Json& schema) {
  if (schema.is_bool()) return schema.boolean ? Alternatives{Facts{}} : Alternatives{};
  if (!schema.is_object())
    return usage(fmt::format("schema {}: expected an object or a boolean", path_of({&schema})));
  if (!open_.insert(&schema).second)
    return usage(fmt::format("schema {}: $ref leads back to itself", path_of({&schema})));
  auto out = read_keywords(schema);
  open_.erase(&schema);
  return out;
}

Result<SchemaReader::Alternatives> SchemaReader::read_keywords(const Json& schema) {
  const bool is_root = &schema == &document_;
  for (const auto& [keyword, value] : schema.members)
    if (!is_supported_keyword(keyword, value, is_root))
      return at(schema, keyword, "this keyword is not supported; remove it");
  NW_ASSIGN(Facts own, own_facts(schema));
  Alternatives out = {std::move(own)};
  if (const Json* reference = schema.find("$ref")) {
    if (!reference->is_string()) return at(schema, "$ref", "expected a string");
    auto target = read_reference(*reference);
    if (!target.ok() && target.status().message().starts_with("$ref"))
      return at(schema, "$ref", target.status().message());
    if (!target.ok()) return target.status();
    NW_ASSIGN(out, product(out, *target));
  }
  for (const std::string_view keyword : {"allOf", "anyOf", "oneOf"}) {
    if (!schema.find(keyword)) continue;
    NW_ASSIGN(const Alternatives more, read_combination(schema, keyword, out));
    NW_ASSIGN(out, product(out, more));
  }
  return out;
}

Result<SchemaReader::Alternatives> SchemaReader::read_reference(const Json& reference) {
  NW_ASSIGN(const Json* target, resolve_reference(document_, reference.text));
  paths_.emplace(target, reference.text);
  return read(*target);
}

Result<SchemaReader::Alternatives> SchemaReader::read_combination(const Json& schema,
                                                                  std::string_view keyword,
                                                                  const Alternatives& beside) {
  const Json& list = schema[keyword];
  if (!list.is_array() || list.items.empty())
    return at(schema, keyword, "expected an array of schemas");
  std::vector<Alternatives> branches;
  for (size_t i = 0; i < list.items.size(); i++) {
    const Json* branch = child(schema, fmt::format("{}/{}", keyword, i), list.items[i]);
    NW_ASSIGN(Alternatives a, read(*branch));
    branches.push_back(std::move(a));
  }
  Alternatives out;
  if (keyword == "allOf") {
    out = {Facts{}};
    for (const Alternatives& b : branches) {
      NW_ASSIGN(out, product(out, b));
    }
    return out;
  }
  if (keyword == "oneOf") {
    const Status exclusive = check_exclusive(branches, beside);
    if (!exclusive.ok()) return at(schema, keyword, exclusive.message());
  }
  for (Alternatives& b : branches)
    out.insert(out.end(), std::make_move_iterator(b.begin()), std::make_move_iterator(b.end()));
  if (out.size() > kMaxAlternatives)
    return at(schema, keyword, fmt::format("more than {} alternatives", kMaxAlternatives));
  return out;
}

Status SchemaReader::check_exclusive(const std::vector<Alternatives>& branches,
                                     const Alternatives& beside) {
  if (checking_) return ok_status();  // an inner oneOf is checked where it is reached
  checking_ = true;
  Status status = find_overlap(branches, beside);
  checking_ = false;
  return status;
}

Status SchemaReader::find_overlap(const std::vector<Alternatives>& branches,
                                  const Alternatives& beside) {
  for (size_t i = 0; i < branches.size(); i++)
    for (size_t j = 0; j < i; j++) {
      NW_ASSIGN(const Alternatives shared, product(branches[i], branches[j]));
      NW_ASSIGN(const Alternatives overlaps, product(shared, beside));
      for (const Facts& overlap : overlaps) {
        NW_ASSIGN(const bool is_exclusive, is_empty(overlap, kEmptyDepth));
        if (!is_exclusive)
          return usage(fmt::format(
              "alternatives {} and {} may both match; make them exclusive or use anyOf", j, i));
      }
    }
  return ok_status();
}

Result<SchemaReader::Alternatives> SchemaReader::product(const Alternatives& a,
                                                         const Alternatives& b) {
  Alternatives out;
  for (const Facts& x : a)
    for (const Facts& y : b) {
      if (out.size() >= kMaxAlternatives)
        return usage(fmt::format("schema: more than {} alternatives in one place; simplify it",
                                 kMaxAlternatives));
      NW_ASSIGN(Facts both_facts, merge(x, y));
      if (both_facts.types != 0) out.push_back(std::move(both_facts));
    }
  return out;
}

Result<Facts> SchemaReader::merge(const Facts& a, const Facts& b) {
  const size_t compared = a.properties.size() * (1 + b.properties.size()) + b.properties.size() +
                          (a.values && b.values ? a.values->size() * b.values->size() : 0);
  work_ += 32 + compared;
  if (work_ > kMaxWork)
    return usage("schema: too many combinations of allOf, anyOf and oneOf; simplify it");
  Facts out = a;
  out.types &= b.types;
  if (a.values && b.values) {
    std::erase_if(*out.values, [&](const Json* v) {
      return std::none_of(b.values->begin(), b.values->end(),
                          [&](const Json* w) { return json_equal(*v, *w); });
    });
  } else if (b.values) {
    out.values = b.values;
  }
  out.length.min = std::max(a.length.min, b.length.min);
  out.length.max = std::min(a.length.max, b.length.max);
  for (const auto& p : b.patterns)
    if (std::find(out.patterns.begin(), out.patterns.end(), p) == out.patterns.end())
      out.patterns.push_back(p);
  out.number.intersect(b.number);

  out.prefix.clear();
  const auto item = [](const Facts& f, size_t i) {
    return i < f.prefix.size() ? f.prefix[i] : f.items;
  };
  for (size_t i = 0; i < std::max(a.prefix.size(), b.prefix.size()); i++)
    out.prefix.push_back(both(item(a, i), item(b, i)));
  out.items = both(a.items, b.items);
  out.min_items = std::max(a.min_items, b.min_items);
  out.max_items = std::min(a.max_items, b.max_items);
  NW_TRY(merge_objects(a, b, out));
  return out;
}

Status SchemaReader::merge_objects(const Facts& a, const Facts& b, Facts& out) {
  for (Facts::Property& p : out.properties) {
    const Facts::Property* other = b.find(p.name);
    p.value = both(p.value, other ? other->value : b.additional);
  }
  for (const Facts::Property& p : b.properties)
    if (!a.find(p.name)) out.properties.push_back({p.name, both(p.value, a.additional)});
  for (const std::string& name : b.required)
    if (std::find(out.required.begin(), out.required.end(), name) == out.required.end())
      out.required.push_back(name);
  out.additional = both(a.additional, b.additional);
  out.min_members = std::max(a.min_members, b.min_members);
  out.max_members = std::min(a.max_members, b.max_members);
  return ok_status();
}

Result<bool> SchemaReader::is_empty(const Conjunction& all, int depth) {
  if (all.empty() || depth == 0) return false;
  // A schema that is being read is about a value further out.
  const std::set<const Json*> outer = std::exchange(open_, {});
  auto options = alternatives(all);
  open_ = outer;
  if (!options.ok()) return options.status();
  for (const Facts& f : *options) {
    NW_ASSIGN(const bool empty, is_empty(f, depth - 1));
    if (!empty) return false;
  }
  return true;
}

Result<bool> SchemaReader::is_empty(const Facts& f, int depth) {
  if (f.values) {
    Facts others = f;
    others.values.reset();
    for (const Json* v : *f.values) {
      NW_ASSIGN(const bool fits, holds(others, *v));
      if (fits) return false;
    }
    return true;
  }
  if (f.types & (kNull | kBoolean)) return false;
  if ((f.types & kNumber) && !f.number.is_empty()) return false;
  if ((f.types & kString) && f.length.min <= f.length.max) return false;
  if (f.types & kArray) {
    bool possible = f.min_items <= f.max_items;
    for (size_t i = 0; i < f.prefix.size() && i < f.min_items && possible; i++) {
      NW_ASSIGN(const bool empty, is_empty(f.prefix[i], depth));
      possible = !empty;
    }
    if (possible && f.min_items > f.prefix.size()) {
      NW_ASSIGN(const bool empty, is_empty(f.items, depth));
      possible = !empty;
    }
    if (possible) return false;
  }
  if (f.types & kObject) {
    bool possible = f.min_members <= f.max_members && f.required.size() <= f.max_members;
    for (size_t i = 0; i < f.required.size() && possible; i++) {
      const Facts::Property* p = f.find(f.required[i]);
      NW_ASSIGN(const bool empty, is_empty(p ? p->value : f.additional, depth));
      possible = !empty;
    }
    if (possible) return false;
  }
  return true;
}

Result<bool> SchemaReader::holds_all(const Conjunction& all, const Json& value) {
  if (all.empty()) return true;
  const std::set<const Json*> outer = std::exchange(open_, {});
  auto options = alternatives(all);
  open_ = outer;
  if (!options.ok()) return options.status();
  for (const Facts& f : *options) {
    NW_ASSIGN(const bool fits, holds(f, value));
    if (fits) return true;
  }
  return false;
}

Result<bool> SchemaReader::holds(const Facts& f, const Json& value) {
  const unsigned type = type_of(value);
  if (!(f.types & type)) return false;
  if (f.values && std::none_of(f.values->begin(), f.values->end(),
                               [&](const Json* v) { return json_equal(*v, value); }))
    return false;
  if (type & kNumber) {
    NW_ASSIGN(const Decimal d, Decimal::parse(value.text));
    return f.number.contains(d);
  }
  if (type == kString) {
    const int64_t n = count_characters(value.text);
    if (n < f.length.min || n > f.length.max) return false;
    for (const std::string& pattern : f.patterns) {
      auto it = pattern_dfas_.find(pattern);
      if (it == pattern_dfas_.end()) {
        NW_ASSIGN(const Regex regex, parse_regex(pattern));
        NW_ASSIGN(Dfa dfa, string_dfa({&regex, 1}, {}, StringForm::kJson));
        it = pattern_dfas_.emplace(pattern, std::move(dfa)).first;
      }
      if (!it->second.matches(canonical_escape(value.text) + '"')) return false;
    }
    return true;
  }
  if (type == kArray) {
    if (value.items.size() < f.min_items || value.items.size() > f.max_items) return false;
    for (size_t i = 0; i < value.items.size(); i++) {
      NW_ASSIGN(const bool fits,
                holds_all(i < f.prefix.size() ? f.prefix[i] : f.items, value.items[i]));
      if (!fits) return false;
    }
  }
  if (type == kObject) {
    if (value.members.size() < f.min_members || value.members.size() > f.max_members) return false;
    for (const std::string& name : f.required)
      if (!value.find(name)) return false;
    for (const auto& [name, member] : value.members) {
      const Facts::Property* p = f.find(name);
      NW_ASSIGN(const bool fits, holds_all(p ? p->value : f.additional, member));
      if (!fits) return false;
    }
  }
  return true;
}

}  // namespace narwhal::grammar
