#include "serve/api/responses_input.h"

#include <fmt/format.h>

namespace narwhal::serve {
namespace {

using text::Role;

class Reader {
 public:
  explicit Reader(TurnRequest& request) : request_(request) {}

  Status item(const Json& j, const std::string& path) {
    const std::string& type = j["type"].text;
    if (type == "message" || (type.empty() && j["role"].is_string())) return message(j, path);
    if (type == "reasoning") return reasoning(j, path);
    if (type == "function_call") {
      const Json& arguments = j["arguments"];
      return call(j, ResponseTools::flat_name(j["namespace"].text, j["name"].text),
                  arguments.is_string() ? arguments.text : arguments.dump());
    }
    if (type == "custom_tool_call") {
      Json arguments = Json::object();
      arguments.set("input", j["input"]);
      return call(j, j["name"].text, arguments.dump());
    }
    if (type == "local_shell_call") {
      Json arguments = Json::object();
      arguments.set("command", j["action"]["command"]);
      return call(j, "local_shell", arguments.dump());
    }
    if (type == "tool_search_call") return call(j, "tool_search", j["arguments"].dump());
    if (type == "function_call_output" || type == "custom_tool_call_output" ||
        type == "local_shell_call_output")
      return output(j, path, j["output"]);
    if (type == "tool_search_output") {
      const Json& tools = j["tools"].is_null() ? j["output"] : j["tools"];
      return output(j, path, tools.is_string() ? tools : Json::of(tools.dump()));
    }
    if (type == "web_search_call" || type == "compaction" || type == "context_compaction" ||
        type == "ghost_snapshot")
      return ok_status();
    if (type == "item_reference")
      return bad_input(fmt::format(
          "{}.type: item_reference is not supported; this server keeps no items, send them whole",
          path));
    return bad_input(fmt::format("{}.type: {} is not supported", path, j["type"].dump()));
  }

 private:
  // The assistant turn that is being written.
  ChatMessage& turn() {
    if (!open_) {
      request_.messages.push_back({{.role = Role::kAssistant}});
      open_ = true;
    }
    return request_.messages.back();
  }

  Status message(const Json& j, const std::string& path) {
    const std::string& role = j["role"].text;
    const bool assistant = role == "assistant";
    NW_ASSIGN(std::string text,
              read_content(j["content"], path + ".content", assistant ? "" : "\n\n", false));
    if (assistant) {
      turn().message.content += text;
      return ok_status();
    }
    open_ = false;
    if (role != "user" && role != "system" && role != "developer")
      return bad_input(
          fmt::format("{}.role: found {}, expected user, assistant, system or developer", path,
                      j["role"].dump()));
    request_.messages.push_back(
        {{.role = role == "user" ? Role::kUser : Role::kSystem, .content = std::move(text)}});
    return ok_status();
  }

  Status reasoning(const Json& j, const std::string& path) {
    // Reasoning begins a turn: one that has an answer already is over.
    if (open_ && (!turn().message.content.empty() || !turn().message.tool_calls.empty()))
      open_ = false;
    const Json& parts = j["content"].items.empty() ? j["summary"] : j["content"];
    NW_ASSIGN(const std::string text, read_content(parts, path + ".summary", "", true));
    turn().message.reasoning += text;
    const std::string& key = j["encrypted_content"].text;
    if (!key.empty()) turn().turn_key = key;
    return ok_status();
  }

  Status call(const Json& j, const std::string& name, std::string arguments) {
    const std::string& id = j["call_id"].is_null() ? j["id"].text : j["call_id"].text;
    turn().message.tool_calls.push_back({id, name, std::move(arguments)});
    return ok_status();
  }

  Status output(const Json& j, const std::string& path, const Json& value) {
    open_ = false;
    ChatMessage m;
    m.message.role = Role::kTool;
    m.message.tool_call_id = j["call_id"].is_null() ? j["id"].text : j["call_id"].text;
    NW_ASSIGN(m.message.content, read_content(value, path + ".output", "\n\n", true));
    request_.messages.push_back(std::move(m));
    return ok_status();
  }

  TurnRequest& request_;
  bool open_ = false;
};

}  // namespace

Status read_response_input(Fields& in, std::vector<ChatMessage> previous, TurnRequest& request) {
  const std::string instructions = in.text("instructions");
  if (!instructions.empty())
    request.messages.push_back({{.role = Role::kSystem, .content = instructions}});
  for (ChatMessage& m : previous) request.messages.push_back(std::move(m));
  const Json& input = in["input"];
  if (input.is_string()) {
    request.messages.push_back({{.role = Role::kUser, .content = input.text}});
    return in.status();
  }
  if (!input.is_array()) return bad_input("input: expected a string or an array of items");
  Reader reader(request);
  for (size_t i = 0; i < input.items.size(); i++)
    NW_TRY(reader.item(input.items[i], fmt::format("input[{}]", i)));
  // Reasoning that nothing followed belongs to no turn.
  const auto& last = request.messages.empty() ? text::Message{} : request.messages.back().message;
  if (last.role == Role::kAssistant && last.content.empty() && last.tool_calls.empty())
    request.messages.pop_back();
  return in.status();
}

}  // namespace narwhal::serve
