#include "serve/reminder.h"

#include <string>
#include <utility>
#include <vector>

namespace narwhal::serve {
namespace {

constexpr const char* kReminder =
    "A tool is called with a block in the form given under \"## Tools\" and in no other way; a "
    "call "
    "that is described in words does nothing. If a tool is needed now, write the block; if not, "
    "answer.";

template <class F>
void each_text(const text::Message& m, F f) {
  f(m.content);
  f(m.reasoning);
  for (const text::ToolCall& call : m.tool_calls) f(call.arguments);
}

}  // namespace

void add_reminders(TurnRequest& request, int64_t depth, const text::Tokenizer& tokenizer) {
  if (depth <= 0 || request.tools.empty() || request.tool_choice == ToolChoice::kNone) return;
  size_t n_bytes = 0;
  std::string tools;
  for (const Json& tool : request.tools) tools += tool.dump();
  n_bytes += tools.size();
  for (const ChatMessage& m : request.messages)
    each_text(m.message, [&](const std::string& text) { n_bytes += text.size(); });
  if (static_cast<int64_t>(n_bytes) < depth) return;  // a token has at least a byte

  int64_t at = std::ssize(tokenizer.encode(tools));
  std::vector<ChatMessage> out;
  for (size_t i = 0; i < request.messages.size(); i++) {
    each_text(request.messages[i].message,
              [&](const std::string& text) { at += std::ssize(tokenizer.encode(text)); });
    const auto role_at = [&](size_t k) {
      return k < request.messages.size() ? request.messages[k].message.role
                                         : text::Role::kAssistant;
    };
    const bool ends_results =
        role_at(i) == text::Role::kTool && role_at(i + 1) != text::Role::kTool;
    out.push_back(std::move(request.messages[i]));
    if (ends_results && at >= depth)
      out.push_back({{.role = text::Role::kSystem, .content = kReminder}});
  }
  request.messages = std::move(out);
}

}  // namespace narwhal::serve
