#include "serve/prompter.h"

#include <fmt/format.h>

#include <algorithm>

namespace narwhal::serve {
namespace {

using text::Role;

bool is_system(const ChatMessage& m) {
  return m.message.role == Role::kSystem || m.message.role == Role::kDeveloper;
}

// Where other conversations part from this one: at the end of system text and tools, and before the
// first question, since some clients open every conversation with the same remarks.
std::vector<PromptMark> anchors(std::span<const int32_t> tokens, const text::Controls& controls) {
  constexpr int64_t kWorthKeeping = 64;
  const auto answer = std::find(tokens.begin(), tokens.end(), controls.assistant.id);
  const auto first = std::find(tokens.begin(), answer, controls.user.id);
  auto last = first;
  for (auto at = first; at != answer; ++at) {
    if (*at == controls.user.id) last = at;
  }
  std::vector<PromptMark> marks;
  for (const auto at : {first, last}) {
    const int64_t position = at - tokens.begin();
    if (at == answer || position < kWorthKeeping) continue;
    if (marks.empty() || marks.back().position < position)
      marks.push_back({position, Mark::kAnchor});
  }
  return marks;
}

}  // namespace

Status arrange_messages(std::vector<ChatMessage>& messages) {
  std::vector<ChatMessage> out;
  bool has_question = false;
  for (ChatMessage& m : messages) {
    if (is_system(m) && (out.empty() || (out.size() == 1 && is_system(out[0])))) {
      m.message.role = Role::kSystem;
      if (out.empty()) {
        out.push_back(std::move(m));
      } else if (!m.message.content.empty()) {
        std::string& all = out[0].message.content;
        all += (all.empty() ? "" : "\n\n") + m.message.content;
      }
      continue;
    }
    if (is_system(m)) {
      m.message.role = Role::kUser;
      m.message.content =
          fmt::format("<system-reminder>\n{}\n</system-reminder>", m.message.content);
    }
    has_question = has_question || m.message.role == Role::kUser || m.message.role == Role::kTool;
    out.push_back(std::move(m));
  }
  messages = std::move(out);
  if (!has_question) return bad_input("messages: there is no user message to answer");
  const text::Message& last = messages.back().message;
  if (last.role == Role::kAssistant && !last.no_eos)
    return bad_input(
        "messages: the last message is the assistant's; set its \"prefix\" to continue it");
  return ok_status();
}

Result<text::Prompt> Prompter::render(TurnRequest& request, uint64_t& history) const {
  NW_TRY(arrange_messages(request.messages));
  std::vector<text::Message> messages;
  history = 0;
  for (const ChatMessage& m : request.messages) {
    messages.push_back(m.message);
    if (m.message.role == Role::kAssistant && !m.message.no_eos)
      messages.back().sampled = memory_.find(history, m);
    history = extend_history(history, m.message);
  }
  if (!request.response_format.is_null()) {
    if (messages[0].role != Role::kSystem)
      messages.insert(messages.begin(), text::Message{.role = Role::kSystem});
    messages[0].response_format = request.response_format;
  }
  return chat_.render(std::move(messages), {.thinking = request.thinking,
                                            .effort = request.effort,
                                            .profile = profile_,
                                            .tools = request.tools});
}

Result<TurnJob> Prompter::job(TurnRequest request) const {
  TurnJob job;
  if (!request.prompt_ids.empty()) {
    job.tokens = request.prompt_ids;
  } else if (!request.prompt.empty()) {
    job.tokens = text::encode_prompt(tokenizer_, request.prompt);
  } else {
    NW_ASSIGN(const text::Prompt prompt, render(request, job.history));
    job.tokens = text::encode_prompt(tokenizer_, prompt);
    job.marks = anchors(job.tokens, chat_.controls());
  }
  // The same prompt again must leave a token to compute; and where reasoning is left out of the
  // next prompt, that one goes on from before <think>.
  if (job.tokens.size() > 1) job.marks.push_back({std::ssize(job.tokens) - 1, Mark::kTurnEnd});
  job.max_tokens = request.max_tokens;
  job.request = std::move(request);
  return job;
}

}  // namespace narwhal::serve
