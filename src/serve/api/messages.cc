// POST /v1/messages and /v1/messages/count_tokens (Anthropic).
#include <fmt/format.h>

#include "serve/api/common.h"
#include "serve/random_id.h"

namespace narwhal::serve {
namespace {

using text::Role;

// Claude Code writes a line with a number that changes with every request; left in the prompt, it
// would make every state useless.
std::string without_billing_header(std::string text) {
  constexpr std::string_view kName = "x-anthropic-billing-header:";
  for (size_t at; (at = text.find(kName)) != text.npos;) {
    const size_t end = text.find('\n', at);
    text.erase(at, end == text.npos ? text.npos : end + 1 - at);
  }
  return text;
}

Result<std::string> read_system(const Json& system, std::string_view path) {
  if (system.is_null()) return std::string();
  if (system.is_string()) return without_billing_header(system.text);
  if (!system.is_array())
    return bad_input(fmt::format("{}: expected a string or an array of text blocks", path));
  std::string out;
  for (size_t i = 0; i < system.items.size(); i++) {
    const Json& block = system.items[i];
    if (block["type"].text != "text")
      return bad_input(fmt::format("{}[{}].type: {} is not supported, expected text", path, i,
                                   block["type"].dump()));
    const std::string text = without_billing_header(block["text"].text);
    if (text.empty()) continue;
    if (!out.empty()) out += "\n\n";
    out += text;
  }
  return out;
}

// User blocks keep their order: texts and results become messages one after another, which the
// template puts into one turn.
Status read_user(const Json& content, const std::string& path, TurnRequest& r) {
  const auto add_text = [&](std::string text) {
    ChatMessage m;
    m.message.content = std::move(text);
    r.messages.push_back(std::move(m));
  };
  if (content.is_string()) {
    add_text(content.text);
    return ok_status();
  }
  if (!content.is_array()) return bad_input(fmt::format("{}: expected a string or blocks", path));
  if (content.items.empty()) add_text("");
  for (size_t i = 0; i < content.items.size(); i++) {
    const Json& block = content.items[i];
    const std::string& type = block["type"].text;
    const std::string at = fmt::format("{}[{}]", path, i);
    if (type == "text") {
      add_text(block["text"].text);
    } else if (type == "tool_result") {
      ChatMessage m;
      m.message.role = Role::kTool;
      m.message.tool_call_id = block["tool_use_id"].text;
      NW_ASSIGN(m.message.content, read_content(block["content"], at + ".content", "\n\n", true));
      r.messages.push_back(std::move(m));
    } else {
      return bad_input(fmt::format(
          "{}.type: {} is not supported; the model reads text only, no images or documents", at,
          block["type"].dump()));
    }
  }
  return ok_status();
}

Status read_assistant(const Json& content, const std::string& path, bool is_last, TurnRequest& r) {
  ChatMessage out;
  text::Message& m = out.message;
  m.role = Role::kAssistant;
  m.no_eos = is_last;
  if (content.is_string()) m.content = content.text;
  if (!content.is_string() && !content.is_array())
    return bad_input(fmt::format("{}: expected a string or blocks", path));
  for (size_t i = 0; i < content.items.size(); i++) {
    const Json& block = content.items[i];
    const std::string& type = block["type"].text;
    if (type == "text") {
      m.content += block["text"].text;
    } else if (type == "thinking") {
      m.reasoning += block["thinking"].text;
      out.turn_key = block["signature"].text;
    } else if (type == "tool_use") {
      if (!block["name"].is_string())
        return bad_input(fmt::format("{}[{}].name: expected a string", path, i));
      const Json& input = block["input"];
      m.tool_calls.push_back(
          {block["id"].text, block["name"].text, input.is_null() ? "{}" : input.dump()});
    } else if (type != "redacted_thinking" && type != "server_tool_use" &&
               !type.ends_with("_tool_result")) {
      return bad_input(fmt::format("{}[{}].type: {} is not supported in an assistant message", path,
                                   i, block["type"].dump()));
    }
  }
  if (m.no_eos && !m.tool_calls.empty()) m.no_eos = false;
  // What is continued is the answer; there is no form in which its reasoning could go on.
  if (m.no_eos) m.reasoning.clear();
  r.messages.push_back(std::move(out));
  return ok_status();
}

Status read_tools(Fields& in, TurnRequest& r) {
  const Json& tools = in.array("tools");
  for (size_t i = 0; i < tools.items.size(); i++) {
    const Json& tool = tools.items[i];
    // Tools with a type of their own are run by their provider.
    if (!tool["type"].is_null() && tool["type"].text != "custom") continue;
    if (!tool["input_schema"].is_object())
      return bad_input(fmt::format("tools[{}].input_schema: expected an object", i));
    Json function = Json::object();
    function.set("name", tool["name"]);
    if (!tool["description"].is_null()) function.set("description", tool["description"]);
    function.set("parameters", tool["input_schema"]);
    NW_TRY(add_tool(std::move(function), tool["strict"], fmt::format("tools[{}]", i), r));
  }
  const Json& choice = in.object("tool_choice");
  r.parallel_tool_calls = !choice["disable_parallel_tool_use"].as_bool();
  const std::string& type = choice["type"].text;
  if (choice.is_null() || type == "auto") return ok_status();
  if (type == "none") return choose_tools(ToolChoice::kNone, {}, r);
  if (type == "any") return choose_tools(ToolChoice::kRequired, {}, r);
  if (type == "tool") return choose_tools(ToolChoice::kRequired, {choice["name"].text}, r);
  return bad_input(fmt::format("tool_choice.type: found {}, expected auto, any, tool or none",
                               choice["type"].dump()));
}

class MessagesForm : public ReplyForm {
 public:
  explicit MessagesForm(const std::string& model)
      : id_("msg_" + random_hex(12)), model_(Json::of(model).dump()) {}

  // The first event names the cached tokens, which are known when the turn has its session.
  void begin(std::string&) override {}

  void keep_alive(int, std::string& out) override {
    start(out);
    add_sse(out, "ping", R"({"type": "ping"})");
  }

  void stream_error(const ApiError& error, std::string& out) override {
    add_sse(out, "error", anthropic_error(error));
  }
  std::string error_body(const ApiError& error) const override { return anthropic_error(error); }

  std::string body() override {
    Json content = Json::array();
    if (!answer_.reasoning.empty()) {
      Json block = Json::object();
      block.set("type", Json::of("thinking"));
      block.set("thinking", Json::of(answer_.reasoning));
      block.set("signature", Json::of(answer_.key));
      content.push(std::move(block));
    }
    if (!answer_.content.empty() || answer_.calls.empty()) {
      Json block = Json::object();
      block.set("type", Json::of("text"));
      block.set("text", Json::of(answer_.content));
      content.push(std::move(block));
    }
    for (const text::ToolCall& call : answer_.calls) {
      const auto input = Json::parse(call.arguments);
      Json block = Json::object();
      block.set("type", Json::of("tool_use"));
      block.set("id", Json::of(call.id));
      block.set("name", Json::of(call.name));
      block.set("input", input.ok() ? *input : Json::object());
      content.push(std::move(block));
    }
    return message(content.dump(), fmt::format("\"{}\"", stop_reason()), stop_sequence());
  }

 protected:
  void stream_event(const TurnEvent& e, std::string& out) override {
    switch (e.kind) {
      case TurnEvent::kStarted:
        start(out);
        add_sse(out, "ping", R"({"type": "ping"})");
        break;
      case TurnEvent::kReasoning:
        open(kThinking, R"({"type": "thinking", "thinking": "", "signature": ""})", out);
        delta("thinking_delta", "thinking", e.text, out);
        break;
      case TurnEvent::kContent:
        open(kText, R"({"type": "text", "text": ""})", out);
        delta("text_delta", "text", e.text, out);
        break;
      case TurnEvent::kCallStart:
        close(out);
        open(kTool,
             fmt::format(R"({{"type": "tool_use", "id": "{}", "name": {}, "input": {{}}}})", e.id,
                         json_quote(e.text)),
             out);
        delta("input_json_delta", "partial_json", "", out);
        break;
      case TurnEvent::kCallArguments:
        delta("input_json_delta", "partial_json", e.text, out);
        break;
      case TurnEvent::kCallEnd:
        close(out);
        break;
      case TurnEvent::kDone:
        start(out);
        if (answer_.content.empty() && answer_.calls.empty())
          open(kText, R"({"type": "text", "text": ""})", out);
        close(out);
        add_sse(
            out, "message_delta",
            fmt::format(
                R"({{"type": "message_delta", "delta": {{"stop_reason": "{}", "stop_sequence": {}}}, "usage": {}}})",
                stop_reason(), stop_sequence(), usage_json()));
        add_sse(out, "message_stop", R"({"type": "message_stop"})");
        break;
      default:
        break;
    }
  }

 private:
  enum Block { kNone, kThinking, kText, kTool };

  void start(std::string& out) {
    if (started_) return;
    started_ = true;
    add_sse(out, "message_start",
            fmt::format(R"({{"type": "message_start", "message": {}}})",
                        message("[]", "null", "null")));
  }

  void open(Block block, std::string_view content_block, std::string& out) {
    if (open_ == block) return;
    close(out);
    open_ = block;
    add_sse(out, "content_block_start",
            fmt::format(R"({{"type": "content_block_start", "index": {}, "content_block": {}}})",
                        index_, content_block));
  }

  void delta(std::string_view type, std::string_view member, std::string_view text,
             std::string& out) {
    add_sse(
        out, "content_block_delta",
        fmt::format(
            R"({{"type": "content_block_delta", "index": {}, "delta": {{"type": "{}", "{}": {}}}}})",
            index_, type, member, json_quote(text)));
  }

  void close(std::string& out) {
    if (open_ == kNone) return;
    if (open_ == kThinking) delta("signature_delta", "signature", answer_.key, out);
    add_sse(out, "content_block_stop",
            fmt::format(R"({{"type": "content_block_stop", "index": {}}})", index_));
    index_++;
    open_ = kNone;
  }

  std::string_view stop_reason() const {
    switch (answer_.finish) {
      case Finish::kStopString:
        return "stop_sequence";
      case Finish::kToolCalls:
        return "tool_use";
      case Finish::kLength:
        return "max_tokens";
      default:
        return "end_turn";
    }
  }
  std::string stop_sequence() const {
    return answer_.finish == Finish::kStopString ? json_quote(answer_.stop) : "null";
  }

  std::string usage_json() const {
    const Usage& u = answer_.usage;
    return fmt::format(
        R"({{"input_tokens": {}, "cache_creation_input_tokens": 0, "cache_read_input_tokens": {}, "output_tokens": {}}})",
        u.prompt - u.cached, u.cached, u.completion);
  }

  std::string message(std::string_view content, std::string_view reason,
                      std::string_view sequence) const {
    return fmt::format(
        R"({{"id": "{}", "type": "message", "role": "assistant", "model": {}, "content": {}, "stop_reason": {}, "stop_sequence": {}, "usage": {}}})",
        id_, model_, content, reason, sequence, usage_json());
  }

  const std::string id_, model_;
  bool started_ = false;
  Block open_ = kNone;
  int index_ = 0;
};

}  // namespace

Result<ParsedTurn> parse_messages(const Json& body, const ApiContext& context) {
  Fields in(body);
  ParsedTurn out;
  TurnRequest& r = out.request;
  r.call_id_prefix = "toolu_";
  const Json& messages = in.array("messages");
  if (messages.items.empty())
    return bad_input("messages: expected an array of at least one message");
  NW_ASSIGN(std::string system, read_system(in["system"], "system"));
  if (!system.empty())
    r.messages.push_back({{.role = Role::kSystem, .content = std::move(system)}});
  for (size_t i = 0; i < messages.items.size(); i++) {
    const Json& m = messages.items[i];
    const std::string path = fmt::format("messages[{}]", i);
    const std::string& role = m["role"].text;
    if (role == "user") {
      NW_TRY(read_user(m["content"], path + ".content", r));
    } else if (role == "assistant") {
      NW_TRY(read_assistant(m["content"], path + ".content", i + 1 == messages.items.size(), r));
    } else if (role == "system" || role == "developer") {
      NW_ASSIGN(std::string text, read_system(m["content"], path + ".content"));
      r.messages.push_back({{.role = Role::kSystem, .content = std::move(text)}});
    } else {
      return bad_input(
          fmt::format("{}.role: found {}, expected user or assistant", path, m["role"].dump()));
    }
  }
  NW_TRY(read_tools(in, r));
  read_sampling(in, context, r);
  read_stop(in, "stop_sequences", r);
  read_limit(in, "max_tokens", context, true, r);
  read_thinking(in, context.anthropic_thinking, context, r);
  const Json& format =
      in["output_format"].is_null() ? in["output_config"]["format"] : in["output_format"];
  read_format(in, "output_format", format, r);
  if (!in.array("mcp_servers").items.empty())
    in.fault("mcp_servers", "MCP servers are not supported; run them in the client");
  r.client = in["metadata"]["user_id"].text;
  const std::string model = in.text("model", context.model);
  const bool stream = in.boolean("stream", false);
  NW_TRY(in.status());
  out.form = std::make_unique<MessagesForm>(model);
  out.form->streaming = stream;
  return out;
}

}  // namespace narwhal::serve
