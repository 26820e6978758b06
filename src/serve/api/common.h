// Parts of request bodies that several APIs share.
#pragma once

#include <string>
#include <string_view>

#include "serve/api/api.h"
#include "serve/api/fields.h"

namespace narwhal::serve {

// temperature, top_p, top_k, min_p, seed, penalties, logit_bias.
void read_sampling(Fields& in, const ApiContext& context, TurnRequest& request);
// A string or an array of at most 16.
void read_stop(Fields& in, std::string_view name, TurnRequest& request);
// max_tokens and the like; 0 is refused unless it means to compute the prompt only.
void read_limit(Fields& in, std::string_view name, const ApiContext& context, bool zero_is_prefill,
                TurnRequest& request);
// Whether to think and how hard, in all the ways that clients say it.
void read_thinking(Fields& in, bool fallback, const ApiContext& context, TurnRequest& request);
// {"type": "json_object" | "json_schema" | "text"} as response_format has it. `schema_holder`:
// where the schema stands in it.
void read_format(Fields& in, std::string_view name, const Json& format, TurnRequest& request);

// The text of a string, or of an array of parts joined with `between`. A part that is no text
// becomes "[Unsupported TYPE]" where `tolerant`, else is refused.
Result<std::string> read_content(const Json& content, std::string_view path,
                                 std::string_view between, bool tolerant);

// Adds one function object, without members that concern transport only; kBadInput for a name that
// cannot stand in a prompt. `strict`: where the API has that switch.
Status add_tool(Json function, const Json& strict, std::string_view path, TurnRequest& request);

// "required" and the like, after the tools: kBadInput for tools that are not declared.
Status choose_tools(ToolChoice choice, std::vector<std::string> names, TurnRequest& request);

bool is_model_alias(std::string_view model, std::string_view alias);

}  // namespace narwhal::serve
