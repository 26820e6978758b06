// Conversations to prompts: DeepSeek V4's chat template.
//
//   NW_ASSIGN(ChatTemplate chat, ChatTemplate::create(tokenizer));
//   NW_ASSIGN(Prompt prompt, chat.render({{.role = Role::kUser, .content = "Hello"}},
//                                        {.thinking = true}));
//   to_string(prompt);                        //
//   <｜begin▁of▁sentence｜><｜User｜>Hello<｜Assistant｜><think> encode_prompt(tokenizer, prompt);
//   // {0, 128803, 19923, 128804, 128821}
//
// What the template contributes may be control tokens; what messages, tools and results contribute
// is always text. Nothing is trimmed. The rules are those of DeepSeek's own encoder.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "narwhal/status.h"
#include "text/dsml.h"
#include "text/prompt.h"
#include "text/tokenizer.h"

namespace narwhal::text {

enum class Role { kSystem, kUser, kAssistant, kTool, kDeveloper, kReminder };

// What the model wrote as one assistant message, token for token. Text has more than one
// tokenisation, so only these ids continue the state that writing them left behind.
struct SampledTurn {
  std::vector<int32_t> reasoning;  // with its </think>; empty when the answer began without any
  std::vector<int32_t> answer;     // content and calls, with EOS where it was sampled
};

struct Message {
  Role role = Role::kUser;
  std::string content = {};
  std::string reasoning = {};             // assistant
  std::vector<ToolCall> tool_calls = {};  // assistant
  std::string tool_call_id = {};          // tool: the call that this answers
  std::vector<Json> tools = {};           // system, developer: function objects {"name": ...}
  Json response_format = {};              // system, developer: a JSON schema, or null
  // User, assistant: action, query, authority, domain, title, read_url or empty.
  std::string task = {};
  bool no_eos = false;  // assistant, last: the model goes on writing this message
  // Assistant: stands instead of reasoning, content and calls.
  std::shared_ptr<const SampledTurn> sampled = {};
};

// The two releases of the model differ in the texts that ask for more reasoning.
enum class PromptProfile { kPreview, k0731 };
enum class Effort { kNone, kLow, kHigh, kMax };

struct RenderOptions {
  bool thinking = false;
  Effort effort = Effort::kNone;  // matters only when thinking
  PromptProfile profile = PromptProfile::kPreview;
  std::vector<Json> tools = {};  // function objects, given to the first system message
};

// Gives the tools to the first system message, or to an empty one put in front.
void attach_tools(std::vector<Message>& messages, std::vector<Json> tools);

// Immutable, so render() may be called from several threads. Needs the tokenizer only in create().
class ChatTemplate {
 public:
  // kBadInput when the vocabulary lacks a control token of the template.
  static Result<ChatTemplate> create(const Tokenizer& tokenizer);

  // The prompt. It ends with <think> or </think> when a user turn is last; a finished assistant
  // message at the end leaves nothing to sample from. Old reasoning is left out unless some message
  // carries tools, calls or results. kBadInput: no messages, an empty developer message, an unknown
  // task, or a task whose token the vocabulary lacks.
  Result<Prompt> render(std::vector<Message> messages, const RenderOptions& options) const;

  // Fill in the middle: the model continues with what stands between prefix and suffix.
  // Experimental: the form of earlier DeepSeek models, not verified for V4.
  Result<Prompt> fill_in_middle(std::string_view prefix, std::string_view suffix) const;

  // Raw completion: begin of sentence and the text.
  Prompt raw(std::string_view text) const;

  const Controls& controls() const { return controls_; }

 private:
  Controls controls_;
  Prompt before_schemas_, after_schemas_;  // the tools text, cut at its control tokens
};

}  // namespace narwhal::text
