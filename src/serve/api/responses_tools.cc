#include "serve/api/responses_tools.h"

#include <fmt/format.h>

namespace narwhal::serve {
namespace {

Json function_of(std::string name, const Json& description, Json parameters) {
  Json f = Json::object();
  f.set("name", Json::of(std::move(name)));
  if (!description.is_null()) f.set("description", description);
  f.set("parameters", std::move(parameters));
  return f;
}

Json constant(std::string_view json) { return *Json::parse(json); }

}  // namespace

std::string ResponseTools::flat_name(std::string_view name_space, std::string_view name) {
  if (name_space.empty()) return std::string(name);
  return fmt::format("{}{}{}", name_space, name_space.ends_with("__") ? "" : "__", name);
}

const ResponseTool& ResponseTools::find(const std::string& name) const {
  static const ResponseTool kPlain;
  const auto at = tools_.find(name);
  return at == tools_.end() ? kPlain : at->second;
}

Status ResponseTools::add(const Json& tool, const std::string& path, TurnRequest& request) {
  const std::string& type = tool["type"].text;
  const std::string& name = tool["name"].text;
  if (type == "function") {
    tools_[name] = {ResponseTool::kFunction, "", name};
    Json parameters = tool["parameters"];
    if (!parameters.is_object()) parameters = constant(R"({"type": "object", "properties": {}})");
    return add_tool(function_of(name, tool["description"], std::move(parameters)), tool["strict"],
                    path, request);
  }
  if (type == "custom") {
    tools_[name] = {ResponseTool::kCustom, "", name};
    return add_tool(
        function_of(name, tool["description"],
                    constant(R"({"type": "object", "properties": {"input": {"type": "string"}},)"
                             R"( "required": ["input"]})")),
        {}, path, request);
  }
  if (type == "local_shell") {
    tools_[type] = {ResponseTool::kLocalShell, "", type};
    return add_tool(
        function_of(type, Json::of("Runs a command on the user's machine."),
                    constant(R"({"type": "object", "properties": {"command": {"type": "array",)"
                             R"( "items": {"type": "string"}}}, "required": ["command"]})")),
        {}, path, request);
  }
  if (type == "tool_search") {
    tools_[type] = {ResponseTool::kToolSearch, "", type};
    Json parameters = tool["parameters"];
    if (!parameters.is_object())
      parameters = constant(R"({"type": "object", "properties": {"query": {"type": "string"}}})");
    return add_tool(function_of(type, tool["description"], std::move(parameters)), {}, path,
                    request);
  }
  if (type == "namespace") {
    const Json& members = tool["tools"];
    for (size_t i = 0; i < members.items.size(); i++) {
      const Json& member = members.items[i];
      if (member["type"].text != "function") continue;
      const std::string flat = flat_name(name, member["name"].text);
      tools_[flat] = {ResponseTool::kFunction, name, member["name"].text};
      Json parameters = member["parameters"];
      if (!parameters.is_object()) parameters = constant(R"({"type": "object", "properties": {}})");
      NW_TRY(add_tool(function_of(flat, member["description"], std::move(parameters)),
                      member["strict"], fmt::format("{}.tools[{}]", path, i), request));
    }
  }
  return ok_status();
}

Status ResponseTools::read_choice(const Json& choice, TurnRequest& request) {
  if (choice.is_null() || choice.text == "auto") return ok_status();
  if (choice.text == "none") return choose_tools(ToolChoice::kNone, {}, request);
  if (choice.text == "required") return choose_tools(ToolChoice::kRequired, {}, request);
  const std::string& type = choice["type"].text;
  if (type == "function" || type == "custom")
    return choose_tools(ToolChoice::kRequired,
                        {flat_name(choice["namespace"].text, choice["name"].text)}, request);
  if (type == "allowed_tools") {
    std::vector<std::string> names;
    for (const Json& t : choice["tools"].items) names.push_back(t["name"].text);
    const bool required = choice["mode"].text == "required";
    return choose_tools(required ? ToolChoice::kRequired : ToolChoice::kAuto, std::move(names),
                        request);
  }
  return bad_input(fmt::format("tool_choice: found {}, expected auto, none, required or a function",
                               choice.dump()));
}

Status ResponseTools::read(Fields& in, TurnRequest& request) {
  const Json& tools = in.array("tools");
  for (size_t i = 0; i < tools.items.size(); i++)
    NW_TRY(add(tools.items[i], fmt::format("tools[{}]", i), request));
  return read_choice(in["tool_choice"], request);
}

}  // namespace narwhal::serve
