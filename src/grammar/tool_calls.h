// Tool calls as a grammar: text, the DSML block, and in it names that exist and values that fit.
//
//   const ToolSpec tools[] = {{"get_weather", &parameters, /*is_strict=*/true}};
//   NW_ASSIGN(auto grammar, compile_tool_calls(tools, dsml_id, {.start = ToolStart::kCall}));
//
// The form is the one of the chat template (src/text/dsml.h); only ｜DSML｜ is a control token, so
// the text of a parameter may contain anything, markup spelled out included:
//
//   ⏎⏎<｜DSML｜tool_calls>⏎
//   <｜DSML｜invoke name="get_weather">⏎
//   <｜DSML｜parameter name="city" string="true">Rome</｜DSML｜parameter>⏎
//   </｜DSML｜invoke>⏎
//   </｜DSML｜tool_calls>
//
// After the block only the end is allowed. Nothing of the grammar stands before "</think>": the
// caller begins the constraint when the reasoning is over.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "grammar/json_schema.h"

namespace narwhal {

struct ToolSpec {
  std::string name;
  const Json* parameters =
      nullptr;  // JSON Schema of the arguments; null: any. Must outlive the call
  // Strict: the arguments satisfy the schema, in the order of its properties, and a schema that is
  // not supported is refused. Otherwise: parameters in any order, each a text or any JSON value,
  // with the declared names only if the schema says additionalProperties false.
  bool is_strict = false;
};

enum class ToolStart {
  kCall,       // the block at once (tool_choice required or named)
  kText,       // any text, then possibly the block (auto); kText without tools never makes one
  kJson,       // `content`, or the block instead of it (auto with a response format)
  kInsideCall  // the rest of the block, after "<｜DSML｜tool_calls>" and its line feed
};

struct ToolCallOptions {
  ToolStart start = ToolStart::kCall;
  bool is_parallel = true;        // more than one call
  const Json* content = nullptr;  // kJson: the schema of the content
  SchemaOptions schema = {};
};

// dsml: the id of ｜DSML｜. For a named tool pass that tool alone. kUsage naming the tool for a
// schema that is not supported, for a name that the markup cannot carry ('"', '<', '>', controls),
// and for no tools where a call is required.
Result<std::shared_ptr<const Grammar>> compile_tool_calls(std::span<const ToolSpec> tools,
                                                          int32_t dsml,
                                                          const ToolCallOptions& options);

}  // namespace narwhal
