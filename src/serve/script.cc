#include "serve/script.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/json.h"

namespace narwhal::serve {

Result<Script> Script::read(const std::string& path) {
  NW_ASSIGN(const std::string text, read_file(path));
  NW_ASSIGN(const Json json, Json::parse(text));
  if (!json.is_array()) return bad_input(fmt::format("{}: expected an array of rules", path));
  Script script;
  for (size_t i = 0; i < json.items.size(); i++) {
    const Json& rule = json.items[i];
    const std::string& after = rule["after"].text;
    if (!rule["write"].is_string() || (after != "user" && after != "tool"))
      return bad_input(fmt::format(
          "{}: rule {}: found {}, expected \"after\": user or tool, and \"write\": a text", path, i,
          rule.dump()));
    script.rules_.push_back({rule["tool"].text, after == "tool", rule["write"].text});
  }
  return script;
}

std::string Script::find(const TurnRequest& request) const {
  bool after_tool = false;
  for (const ChatMessage& m : request.messages) {
    if (m.message.role == text::Role::kAssistant) after_tool = false;
    if (m.message.role == text::Role::kTool) after_tool = true;
  }
  for (const Rule& rule : rules_) {
    const bool declared = rule.tool.empty() ||
                          std::any_of(request.tools.begin(), request.tools.end(),
                                      [&](const Json& t) { return t["name"].text == rule.tool; });
    if (declared && rule.after_tool == after_tool) return rule.write;
  }
  return {};
}

}  // namespace narwhal::serve
