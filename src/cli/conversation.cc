#include "cli/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "text/chat_json.h"

namespace narwhal::cli {
namespace {

text::Message message(text::Role role, std::string content) {
  text::Message m;
  m.role = role;
  m.content = std::move(content);
  return m;
}

}  // namespace

Conversation::Conversation(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
                           text::RenderOptions options, std::string system)
    : tokenizer_(tokenizer), chat_(chat), options_(std::move(options)) {
  if (!system.empty()) messages_.push_back(message(text::Role::kSystem, std::move(system)));
}

Result<std::vector<int32_t>> Conversation::prompt_for(const std::string& user) const {
  std::vector<text::Message> messages;
  text::RenderOptions options = options_;
  if (timeline_.empty()) {
    messages = messages_;
  } else {
    options.effort = text::Effort::kNone;  // its text stands at the very beginning only
  }
  messages.push_back(message(text::Role::kUser, user));
  NW_ASSIGN(text::Prompt prompt, chat_.render(std::move(messages), options));
  std::vector<int32_t> ids = timeline_;
  if (!timeline_.empty()) prompt.erase(prompt.begin());  // begin of sentence
  const std::vector<int32_t> turn = text::encode_prompt(tokenizer_, prompt);
  ids.insert(ids.end(), turn.begin(), turn.end());
  return ids;
}

void Conversation::add(const std::string& user, std::vector<int32_t> prompt, const Answer& answer) {
  if (answer.ids.empty()) return;
  const text::Controls& controls = chat_.controls();
  timeline_ = std::move(prompt);
  timeline_.insert(timeline_.end(), answer.ids.begin(), answer.ids.end());
  // A role token that ended the turn is no part of it.
  if (controls.ends_turn(timeline_.back())) timeline_.pop_back();
  if (answer.in_reasoning) timeline_.push_back(controls.end_think.id);
  timeline_.push_back(controls.eos.id);

  messages_.push_back(message(text::Role::kUser, user));
  text::Message reply = message(text::Role::kAssistant, answer.content);
  reply.reasoning = answer.reasoning;
  reply.tool_calls = answer.tool_calls;
  for (size_t i = 0; i < reply.tool_calls.size(); i++) {
    reply.tool_calls[i].id = fmt::format("call_{}_{}", messages_.size(), i);
  }
  messages_.push_back(std::move(reply));
}

std::string Conversation::to_json() const {
  Json list = Json::array();
  for (const text::Message& m : messages_) {
    Json j = Json::object();
    j.set("role", Json::of(m.role == text::Role::kSystem      ? "system"
                           : m.role == text::Role::kAssistant ? "assistant"
                                                              : "user"));
    j.set("content", Json::of(m.content));
    if (!m.reasoning.empty()) j.set("reasoning_content", Json::of(m.reasoning));
    if (!m.tool_calls.empty()) {
      Json calls = Json::array();
      for (const text::ToolCall& c : m.tool_calls) calls.push(text::call_to_json(c));
      j.set("tool_calls", std::move(calls));
    }
    list.push(std::move(j));
  }
  Json tokens = Json::array();
  for (const int32_t id : timeline_) tokens.push(Json::of(int64_t{id}));
  Json out = Json::object();
  out.set("messages", std::move(list));
  out.set("tokens", std::move(tokens));
  return out.dump() + "\n";
}

// As many turns of each side, all of what they said in its order, and an end.
bool Conversation::says(std::span<const int32_t> tokens,
                        const std::vector<text::Message>& messages) const {
  const text::Controls& controls = chat_.controls();
  if (tokens.empty() || tokens.back() != controls.eos.id) return false;
  for (const int32_t id : tokens)
    if (id < 0 || id >= tokenizer_.vocab_size()) return false;
  const std::string text = tokenizer_.decode(tokens);
  std::ptrdiff_t n_user = 0, n_assistant = 0;
  size_t at = 0;
  for (const text::Message& m : messages) {
    n_user += m.role == text::Role::kUser;
    n_assistant += m.role == text::Role::kAssistant;
    at = text.find(m.content, at);
    if (at == text.npos) return false;
    at += m.content.size();
  }
  return std::count(tokens.begin(), tokens.end(), controls.user.id) == n_user &&
         std::count(tokens.begin(), tokens.end(), controls.assistant.id) == n_assistant;
}

Status Conversation::load_json(const std::string& json) {
  NW_ASSIGN(const Json root, Json::parse(json));
  if (!root["messages"].is_array()) {
    return bad_input("no array \"messages\"; expected a file that /save wrote");
  }
  NW_ASSIGN(std::vector<text::Message> messages, text::messages_from_json(root["messages"]));
  std::vector<int32_t> timeline;
  bool has_turns = false;
  for (const text::Message& m : messages) {
    if (m.role == text::Role::kTool || m.role == text::Role::kDeveloper ||
        m.role == text::Role::kReminder) {
      return bad_input("only system, user and assistant messages can be loaded");
    }
    has_turns = has_turns || m.role != text::Role::kSystem;
  }
  if (has_turns) {
    if (messages.back().role != text::Role::kAssistant) {
      return bad_input("the last message is not the assistant's; end the file with an answer");
    }
    for (const Json& id : root["tokens"].items)
      timeline.push_back(static_cast<int32_t>(id.as_int(-1)));
    if (!says(timeline, messages)) {
      NW_ASSIGN(const text::Prompt prompt, chat_.render(messages, options_));
      timeline = text::encode_prompt(tokenizer_, prompt);
    }
  }
  messages_ = std::move(messages);
  timeline_ = std::move(timeline);
  return ok_status();
}

}  // namespace narwhal::cli
