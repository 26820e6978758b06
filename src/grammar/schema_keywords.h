// Inside of the schema reader: which keywords there are, and where references lead.
#pragma once

#include <string_view>

#include "base/json.h"
#include "narwhal/status.h"

namespace narwhal::grammar {

// Whether the keyword is read, says nothing about validity, or says nothing with this value.
bool is_supported_keyword(std::string_view keyword, const Json& value, bool is_root);

// "#" and JSON pointers "#/a/b" in `document`. kUsage, beginning with "$ref", for anything else.
Result<const Json*> resolve_reference(const Json& document, std::string_view reference);

}  // namespace narwhal::grammar
