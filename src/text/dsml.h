// DSML, the markup of tool calls: rendered into prompts, and read strictly from a completion.
//
//   ⏎⏎<｜DSML｜tool_calls>⏎
//   <｜DSML｜invoke name="get_weather">⏎
//   <｜DSML｜parameter name="city" string="true">Rome</｜DSML｜parameter>⏎
//   </｜DSML｜invoke>⏎
//   </｜DSML｜tool_calls>
//
// Only ｜DSML｜ is a control token; the rest is text. String values stand as they are, other values
// as JSON. A value that contains the closer is written with "&lt;" for its "<"; nothing else is
// escaped. For reading while the model writes see output_parser.h.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "narwhal/status.h"
#include "text/prompt.h"

namespace narwhal::text {

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON text; from the parser always an object

  friend bool operator==(const ToolCall&, const ToolCall&) = default;
};

// Appends the block with its two leading line feeds; nothing when there are no calls. Arguments
// that are no JSON object become one string parameter named "arguments".
void render_tool_calls(Prompt& prompt, const Controls& controls, std::span<const ToolCall> calls);

struct Completion {
  std::string reasoning, content;
  std::vector<ToolCall> tool_calls;  // without ids

  friend bool operator==(const Completion&, const Completion&) = default;
};

// Reads what the model wrote after the prompt's <think> (thinking) or </think>:
//   [reasoning </think>] content [block] EOS
// kBadInput when it is anything else: </think> or EOS missing, a control that ends the turn before
// the end, text after the block, a control token out of place, a repeated parameter, a value that
// is not the JSON it claims to be. Bytes that are not UTF-8 become U+FFFD. The two line feeds
// before the block belong to no part. A value runs to the first closer of a parameter, whatever it
// contains.
Result<Completion> parse_completion(const Controls& controls, std::span<const PromptItem> items,
                                    bool thinking);

}  // namespace narwhal::text
