// What a JSON Schema says, brought to a normal form: a list of alternatives, each a conjunction of
// plain facts per type. Subschemas stay unread until they are reached.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "grammar/number.h"
#include "grammar/string_body.h"
#include "narwhal/status.h"

namespace narwhal::grammar {

// All of these schemas hold; none: any value. Each once, in the order they were met.
using Conjunction = std::vector<const Json*>;
Conjunction both(const Conjunction& a, const Conjunction& b);

enum Types : unsigned {
  kNull = 1,
  kBoolean = 2,
  kInteger = 4,
  kFraction = 8,  // numbers that are no integers; kNumber is both
  kString = 16,
  kArray = 32,
  kObject = 64,
  kNumber = kInteger | kFraction,
  kAllTypes = 127
};

struct Facts {
  struct Property {
    std::string name;
    Conjunction value;
  };
  static constexpr uint64_t kNoLimit = ~uint64_t{0};

  unsigned types = kAllTypes;
  std::optional<std::vector<const Json*>> values;  // enum, const

  StringBounds length;
  std::vector<std::string> patterns;

  NumberBounds number;

  std::vector<Conjunction> prefix;
  Conjunction items;  // after the prefix
  uint64_t min_items = 0, max_items = kNoLimit;

  std::vector<Property> properties;
  std::vector<std::string> required;
  Conjunction additional;
  uint64_t min_members = 0, max_members = kNoLimit;

  const Property* find(std::string_view name) const;
};

// Reads schemas of one document, which must outlive it. Errors are kUsage and name the place as a
// JSON pointer. One thread.
class SchemaReader {
 public:
  explicit SchemaReader(const Json& document);

  // The alternatives of a conjunction; none: no value fits.
  Result<std::vector<Facts>> alternatives(const Conjunction& all);
  // Whether a value satisfies the facts.
  Result<bool> holds(const Facts& facts, const Json& value);

  // "#/properties/a": where a schema stands, by the way it was first reached.
  std::string path_of(const Conjunction& all) const;
  // Makes a schema that is not in the document known under a name.
  void name(const Json* schema, std::string path) { paths_.emplace(schema, std::move(path)); }

 private:
  using Alternatives = std::vector<Facts>;

  Result<Alternatives> read(const Json& schema);
  Result<Alternatives> read_keywords(const Json& schema);
  Result<Alternatives> read_reference(const Json& reference);
  // beside: what else the schema says; it can make the alternatives of oneOf exclusive.
  Result<Alternatives> read_combination(const Json& schema, std::string_view keyword,
                                        const Alternatives& beside);
  Status check_exclusive(const std::vector<Alternatives>& branches, const Alternatives& beside);
  Status find_overlap(const std::vector<Alternatives>& branches, const Alternatives& beside);
  Result<Alternatives> product(const Alternatives& a, const Alternatives& b);
  Result<Facts> merge(const Facts& a, const Facts& b);
  Status merge_objects(const Facts& a, const Facts& b, Facts& out);
  Result<Facts> own_facts(const Json& schema);
  Status read_string(const Json& schema, Facts& facts);
  Status read_number(const Json& schema, Facts& facts);
  Status read_array(const Json& schema, Facts& facts);
  Status read_object(const Json& schema, Facts& facts);
  Status read_format(const std::string& format, Facts& facts);

  // Whether it is plain that no value fits. False when unsure.
  Result<bool> is_empty(const Facts& facts, int depth);
  Result<bool> is_empty(const Conjunction& all, int depth);
  Result<bool> holds_all(const Conjunction& all, const Json& value);

  Status at(const Json& schema, std::string_view keyword, std::string_view problem) const;
  const Json* child(const Json& parent, std::string_view step, const Json& schema);
  Conjunction one(const Json& parent, std::string_view step, const Json& schema) {
    return {child(parent, step, schema)};
  }

  const Json& document_;
  std::map<const Json*, std::string> paths_;
  std::set<const Json*> open_;  // being read, to find references that lead back to themselves
  std::map<std::string, Dfa> pattern_dfas_;
  bool checking_ = false;  // inside check_exclusive()
  size_t work_ = 0;        // comparisons so far, bounded
};

// Equal as JSON values: numbers by value, members in any order.
bool json_equal(const Json& a, const Json& b);

}  // namespace narwhal::grammar
