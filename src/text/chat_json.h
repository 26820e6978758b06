// Messages and tools as clients write them (OpenAI field names, and the template's own: task,
// wo_eos, response_format and tools on a message) to the template's messages.
#pragma once

#include <vector>

#include "base/json.h"
#include "narwhal/status.h"
#include "text/chat.h"

namespace narwhal::text {

// An array of messages, with the request's tools (an array, or null) attached to the first system
// message. Content is a string, null or an array of parts: texts of user and system messages and of
// tool results are joined by a blank line, of assistants by nothing. A part that is no text becomes
// "[Unsupported TYPE]" in a tool result and is refused elsewhere. kBadInput names the message.
Result<std::vector<Message>> messages_from_json(const Json& messages, const Json& tools = {});

// The function objects of an array of tools {"type": "function", "function": {...}}; null is empty.
Result<std::vector<Json>> tools_from_json(const Json& tools);

// A call as an assistant's message has it: {"id", "type": "function", "function": {"name",
// "arguments"}}.
Json call_to_json(const ToolCall& call);

}  // namespace narwhal::text
