#include "text/chat_json.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

namespace narwhal::text {
namespace {

std::optional<Role> role_by_name(std::string_view name) {
  if (name == "system") return Role::kSystem;
  if (name == "user") return Role::kUser;
  if (name == "assistant") return Role::kAssistant;
  if (name == "tool") return Role::kTool;
  if (name == "developer") return Role::kDeveloper;
  if (name == "latest_reminder") return Role::kReminder;
  return std::nullopt;
}

Result<std::string> content_text(const Json& content, Role role) {
  if (content.is_null()) return std::string();
  if (content.is_string()) return content.text;
  if (!content.is_array())
    return bad_input("content is " + content.dump() + ", expected a string or an array of parts");
  std::string out;
  for (size_t i = 0; i < content.items.size(); i++) {
    const Json& part = content.items[i];
    if (i > 0 && role != Role::kAssistant) out += "\n\n";
    if (part["type"].text == "text") {
      out += part["text"].text;
    } else if (role == Role::kTool) {
      out += "[Unsupported " + part["type"].text + "]";
    } else {
      return bad_input(
          fmt::format("content part of type \"{}\": the model reads text only; images and files "
                      "are not supported",
                      part["type"].text));
    }
  }
  return out;
}

Result<std::vector<ToolCall>> calls_from_json(const Json& calls) {
  std::vector<ToolCall> out;
  if (!calls.is_null() && !calls.is_array())
    return bad_input("tool_calls is " + calls.dump() + ", expected an array");
  for (const Json& call : calls.items) {
    const Json& function = call["function"];
    const Json& arguments = function["arguments"];
    if (!function["name"].is_string())
      return bad_input("tool call " + call.dump() + " has no function.name");
    out.push_back({call["id"].text, function["name"].text,
                   arguments.is_string() ? arguments.text
                   : arguments.is_null() ? "{}"
                                         : arguments.dump()});
  }
  return out;
}

Result<Message> message_from_json(const Json& json) {
  const auto role = role_by_name(json["role"].text);
  if (!role)
    return bad_input(fmt::format(
        "role is {}, expected system, user, assistant, tool, developer or latest_reminder",
        json["role"].dump()));
  Message m;
  m.role = *role;
  NW_ASSIGN(m.content, content_text(json["content"], m.role));
  NW_ASSIGN(m.tool_calls, calls_from_json(json["tool_calls"]));
  NW_ASSIGN(m.tools, tools_from_json(json["tools"]));
  m.reasoning = json["reasoning_content"].text;
  m.tool_call_id = json["tool_call_id"].text;
  m.response_format = json["response_format"];
  m.task = json["task"].text;
  m.no_eos = json["wo_eos"].as_bool();
  return m;
}

}  // namespace

Result<std::vector<Json>> tools_from_json(const Json& tools) {
  std::vector<Json> out;
  if (!tools.is_null() && !tools.is_array())
    return bad_input("tools is " + tools.dump() + ", expected an array");
  for (const Json& tool : tools.items) {
    if (!tool["function"].is_object())
      return bad_input("tool " + tool.dump() +
                       " has no function; expected {\"type\": \"function\", \"function\": {...}}");
    out.push_back(tool["function"]);
  }
  return out;
}

Result<std::vector<Message>> messages_from_json(const Json& messages, const Json& tools) {
  if (!messages.is_array()) return bad_input("messages: expected an array");
  std::vector<Message> out;
  for (size_t i = 0; i < messages.items.size(); i++) {
    auto message = message_from_json(messages.items[i]);
    if (!message.ok()) return message.status().within(fmt::format("messages[{}]", i));
    out.push_back(*std::move(message));
  }
  NW_ASSIGN(std::vector<Json> functions, tools_from_json(tools));
  attach_tools(out, std::move(functions));
  return out;
}

Json call_to_json(const ToolCall& call) {
  Json function = Json::object();
  function.set("name", Json::of(call.name));
  function.set("arguments", Json::of(call.arguments));
  Json j = Json::object();
  j.set("id", Json::of(call.id));
  j.set("type", Json::of("function"));
  j.set("function", std::move(function));
  return j;
}

}  // namespace narwhal::text
