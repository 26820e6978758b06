// Inside of the DSML readers: the flat form of model output, and one invoke in it.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "narwhal/status.h"
#include "text/dsml.h"
#include "text/prompt.h"

namespace narwhal::text {

// Text in which a control is the byte FF and four bytes of id, which no UTF-8 text contains, so
// that text which spells a control is never mistaken for one.
std::string flatten(const Control& control);
std::string flatten(std::span<const PromptItem> items);  // makes the text well-formed UTF-8
// Plain text again: known controls by their names, others dropped.
std::string unflatten(const Controls& controls, std::string_view flat);

inline constexpr char kFlatMark = '\xFF';
inline constexpr size_t kFlatSize = 5;

// The flat tags of DSML around the one control they contain.
struct DsmlTags {
  explicit DsmlTags(const Controls& controls);
  std::string open;             // "<｜DSML｜"
  std::string close;            // "</｜DSML｜"
  std::string open_block;       // "<｜DSML｜tool_calls>"
  std::string close_block;      // "</｜DSML｜tool_calls>"
  std::string open_invoke;      // "<｜DSML｜invoke"
  std::string close_invoke;     // "</｜DSML｜invoke>"
  std::string open_parameter;   // "<｜DSML｜parameter"
  std::string close_parameter;  // "</｜DSML｜parameter>"
};

// Reads the first invoke at the start of `flat` and removes it with its closer. Strict as
// parse_completion() is; otherwise blanks between tags may vary, a value that is not the JSON it
// claims to be becomes a JSON string, and of a repeated parameter the first counts.
Result<ToolCall> take_invoke(const Controls& controls, const DsmlTags& tags, std::string_view& flat,
                             bool strict);

}  // namespace narwhal::text
