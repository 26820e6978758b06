// JSON Schema to grammar: documents that are valid by construction.
//
//   NW_ASSIGN(Json schema, Json::parse(R"({"type": "object", "properties": {"n": {"type":
//             "integer", "minimum": 0}}, "required": ["n"], "additionalProperties": false})"));
//   NW_ASSIGN(auto grammar, compile_json_schema(schema, {}));
//
// Supported (drafts 4 to 2020-12 where they agree; keywords beside $ref count):
//   type, also a list; enum, const; nullable; boolean schemas
//   properties, required, additionalProperties; minProperties (above 1 only where no other
//     properties are allowed), maxProperties
//   items, prefixItems, additionalItems, minItems, maxItems
//   minLength, maxLength, pattern (grammar/regex.h), format: date, time, date-time, duration, uuid,
//     email, ipv4, hostname, uri; int32, int64, uint32, uint64; float and double say nothing more
//   minimum, maximum, exclusiveMinimum, exclusiveMaximum (number or draft 4's boolean), multipleOf
//   anyOf, allOf, $ref into the same document (also recursive), $defs, definitions
//   oneOf, if the alternatives exclude each other by type, value, range or a required member
//   annotations: title, description, default, examples, $schema, $id at the root, $comment,
//     deprecated, readOnly, writeOnly, contentEncoding, contentMediaType, discriminator, x-...
// Everything else is refused with kUsage, naming the keyword and where it stands; nothing that
// narrows the documents is ignored. The same for a schema that no document satisfies.
//
// What is generated: members in the order of `properties` (those only named in `required` after
// them), optional ones skipped or not, then undeclared ones; their names may repeat. One space or
// none after ',' and ':', no other blanks. Strings without pattern and format take every escape;
// otherwise, and in names, each character has one spelling. Numbers as in grammar/number.h.
#pragma once

#include <memory>

#include "base/json.h"
#include "grammar/grammar.h"
#include "narwhal/status.h"

namespace narwhal {

struct SchemaOptions {
  int max_depth = 64;       // arrays and objects in each other
  int max_nodes = 200'000;  // of the grammar; beyond: kUsage
};

Result<std::shared_ptr<const Grammar>> compile_json_schema(const Json& schema,
                                                           const SchemaOptions& options);
// Any JSON object; any JSON value.
Result<std::shared_ptr<const Grammar>> compile_json_object(const SchemaOptions& options);
Result<std::shared_ptr<const Grammar>> compile_json_value(const SchemaOptions& options);

}  // namespace narwhal
