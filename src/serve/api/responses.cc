// POST /v1/responses (OpenAI).
#include <fmt/format.h>

#include <optional>
#include <utility>

#include "serve/api/common.h"
#include "serve/api/responses_input.h"
#include "serve/api/responses_store.h"
#include "serve/api/responses_tools.h"
#include "serve/random_id.h"

namespace narwhal::serve {
namespace {

class ResponsesForm : public ReplyForm {
 public:
  // `conversation`: what a later request may continue, with the answer; empty if it may not.
  ResponsesForm(const Json& body, const ApiContext& context, ResponseTools tools,
                std::vector<ChatMessage> conversation)
      : tools_(std::move(tools)),
        store_(conversation.empty() ? nullptr : context.responses),
        conversation_(std::move(conversation)),
        created_(std::time(nullptr)) {
    const std::string& summary = body["reasoning"]["summary"].text;
    shows_reasoning_ = summary == "auto" || summary == "concise" || summary == "detailed";
    for (const Json& name : body["include"].items)
      with_key_ = with_key_ || name.text == "reasoning.encrypted_content";
    const auto echo = [&](const char* name, const Json& fallback) {
      echoed_.set(name, body[name].is_null() ? fallback : body[name]);
    };
    echo("model", Json::of(context.model));
    echo("instructions", {});
    echo("parallel_tool_calls", Json::of(true));
    echo("tool_choice", Json::of("auto"));
    echo("tools", Json::array());
    echo("temperature", Json::of(double(context.sampling.temperature)));
    echo("top_p", Json::of(double(context.sampling.top_p)));
    echo("max_output_tokens", {});
    echo("reasoning", *Json::parse(R"({"effort": null, "summary": null})"));
    echo("text", *Json::parse(R"({"format": {"type": "text"}})"));
    echo("metadata", Json::object());
    echo("previous_response_id", {});
    echoed_.set("store", Json::of(store_ != nullptr));
    echoed_.set("truncation", Json::of("disabled"));
  }

  void begin(std::string& out) override {
    send("response.created", fmt::format("\"response\": {}", response("in_progress")), out);
    send("response.in_progress", fmt::format("\"response\": {}", response("in_progress")), out);
  }

  void keep_alive(int, std::string& out) override {
    send("response.in_progress", fmt::format("\"response\": {}", response("in_progress")), out);
  }

  void stream_error(const ApiError& error, std::string& out) override {
    error_ = error;
    send("response.failed", fmt::format("\"response\": {}", response("failed")), out);
  }

  std::string body() override {
    keep();
    items_.clear();
    if (!answer_.reasoning.empty())
      items_.push_back(reasoning_item(answer_.content.empty() && answer_.calls.empty() &&
                                              answer_.finish == Finish::kLength
                                          ? "incomplete"
                                          : "completed"));
    if (!answer_.content.empty()) items_.push_back(message_item("completed", answer_.content));
    for (const text::ToolCall& call : answer_.calls) {
      item_id_ = new_id("fc");
      items_.push_back(call_item(call, "completed"));
    }
    return response(final_status());
  }

 protected:
  void stream_event(const TurnEvent& e, std::string& out) override {
    switch (e.kind) {
      case TurnEvent::kReasoning:
        if (open_ != kReasoning) open_reasoning(out);
        if (shows_reasoning_)
          send("response.reasoning_summary_text.delta",
               place(fmt::format("\"summary_index\": 0, \"delta\": {}", json_quote(e.text))), out);
        break;
      case TurnEvent::kContent:
        if (open_ != kMessage) open_message(out);
        send("response.output_text.delta",
             place(fmt::format("\"content_index\": 0, \"delta\": {}, \"logprobs\": []",
                               json_quote(e.text))),
             out);
        break;
      case TurnEvent::kCallStart:
        close(out, "completed");
        open_ = kCall;
        item_id_ = new_id("fc");
        added(call_item({e.id, e.text, ""}, "in_progress"), out);
        break;
      case TurnEvent::kCallArguments:
        if (tools_.find(answer_.calls.back().name).kind == ResponseTool::kFunction)
          send("response.function_call_arguments.delta",
               place(fmt::format("\"delta\": {}", json_quote(e.text))), out);
        break;
      case TurnEvent::kCallEnd:
        close(out, "completed");
        break;
      case TurnEvent::kDone: {
        const bool cut = answer_.finish == Finish::kLength;
        keep();
        close(out, cut ? "incomplete" : "completed");
        send(cut ? "response.incomplete" : "response.completed",
             fmt::format("\"response\": {}", response(final_status())), out);
        break;
      }
      default:
        break;
    }
  }

 private:
  enum Open { kNothing, kReasoning, kMessage, kCall };

  // Before the client learns that it is there.
  void keep() {
    if (!store_) return;
    ChatMessage answer;
    answer.message = {.role = text::Role::kAssistant,
                      .content = answer_.content,
                      .reasoning = answer_.reasoning,
                      .tool_calls = answer_.calls};
    answer.turn_key = answer_.key;
    conversation_.push_back(std::move(answer));
    std::exchange(store_, nullptr)->put(id_, std::move(conversation_));
  }

  static std::string new_id(std::string_view prefix) {
    return fmt::format("{}_{}", prefix, random_hex(12));
  }

  void send(std::string_view type, std::string_view members, std::string& out) {
    add_sse(
        out, type,
        fmt::format(R"({{"type": "{}", "sequence_number": {}, {}}})", type, sequence_++, members));
  }
  std::string place(std::string_view members) const {
    return fmt::format(R"("item_id": "{}", "output_index": {}, {})", item_id_, items_.size(),
                       members);
  }
  void added(std::string_view item, std::string& out) {
    send("response.output_item.added",
         fmt::format(R"("output_index": {}, "item": {})", items_.size(), item), out);
  }

  void open_reasoning(std::string& out) {
    close(out, "completed");
    open_ = kReasoning;
    item_id_ = new_id("rs");
    added(fmt::format(
              R"({{"id": "{}", "type": "reasoning", "status": "in_progress", "summary": []}})",
              item_id_),
          out);
    if (shows_reasoning_)
      send("response.reasoning_summary_part.added",
           place(R"("summary_index": 0, "part": {"type": "summary_text", "text": ""})"), out);
  }

  void open_message(std::string& out) {
    close(out, "completed");
    open_ = kMessage;
    item_id_ = new_id("msg");
    added(
        fmt::format(
            R"({{"id": "{}", "type": "message", "status": "in_progress", "role": "assistant", "content": []}})",
            item_id_),
        out);
    send(
        "response.content_part.added",
        place(
            R"("content_index": 0, "part": {"type": "output_text", "text": "", "annotations": [], "logprobs": []})"),
        out);
  }

  void close(std::string& out, std::string_view status) {
    std::string item;
    if (open_ == kReasoning) {
      const std::string text = json_quote(answer_.reasoning);
      if (shows_reasoning_) {
        send("response.reasoning_summary_text.done",
             place(fmt::format("\"summary_index\": 0, \"text\": {}", text)), out);
        send("response.reasoning_summary_part.done",
             place(fmt::format(
                 R"("summary_index": 0, "part": {{"type": "summary_text", "text": {}}})", text)),
             out);
      }
      item = reasoning_item(status);
    } else if (open_ == kMessage) {
      const std::string text = json_quote(answer_.content);
      send("response.output_text.done",
           place(fmt::format("\"content_index\": 0, \"text\": {}, \"logprobs\": []", text)), out);
      send("response.content_part.done",
           place(fmt::format(R"("content_index": 0, "part": {})", text_part(answer_.content))),
           out);
      item = message_item(status, answer_.content);
    } else if (open_ == kCall) {
      const text::ToolCall& call = answer_.calls.back();
      const auto kind = tools_.find(call.name).kind;
      if (kind == ResponseTool::kFunction) {
        send("response.function_call_arguments.done",
             place(fmt::format(R"("name": {}, "arguments": {})", json_quote(tool_name(call.name)),
                               json_quote(call.arguments))),
             out);
      } else if (kind == ResponseTool::kCustom) {
        const std::string input = json_quote(custom_input(call));
        send("response.custom_tool_call_input.delta", place(fmt::format("\"delta\": {}", input)),
             out);
        send("response.custom_tool_call_input.done", place(fmt::format("\"input\": {}", input)),
             out);
      }
      item = call_item(call, status);
    } else {
      return;
    }
    send("response.output_item.done",
         fmt::format(R"("output_index": {}, "item": {})", items_.size(), item), out);
    items_.push_back(std::move(item));
    open_ = kNothing;
  }

  // ---- items

  std::string reasoning_item(std::string_view status) {
    if (item_id_.empty()) item_id_ = new_id("rs");
    return fmt::format(R"({{"id": "{}", "type": "reasoning", "status": "{}", "summary": [{}]{}}})",
                       std::exchange(item_id_, {}), status,
                       shows_reasoning_ ? fmt::format(R"({{"type": "summary_text", "text": {}}})",
                                                      json_quote(answer_.reasoning))
                                        : "",
                       with_key_ ? fmt::format(R"(, "encrypted_content": "{}")", answer_.key) : "");
  }

  static std::string text_part(std::string_view text) {
    return fmt::format(
        R"({{"type": "output_text", "text": {}, "annotations": [], "logprobs": []}})",
        json_quote(text));
  }

  std::string message_item(std::string_view status, std::string_view text) {
    if (item_id_.empty()) item_id_ = new_id("msg");
    return fmt::format(
        R"({{"id": "{}", "type": "message", "status": "{}", "role": "assistant", "content": [{}]}})",
        std::exchange(item_id_, {}), status, text_part(text));
  }

  const std::string& tool_name(const std::string& name) const {
    const ResponseTool& tool = tools_.find(name);
    return tool.name_space.empty() ? name : tool.name;
  }
  static std::string custom_input(const text::ToolCall& call) {
    const auto arguments = Json::parse(call.arguments);
    return arguments.ok() ? (*arguments)["input"].text : "";
  }

  std::string call_item(const text::ToolCall& call, std::string_view status) {
    const ResponseTool& tool = tools_.find(call.name);
    const auto arguments = Json::parse(call.arguments);
    Json j = Json::object();
    j.set("id", Json::of(item_id_));
    switch (tool.kind) {
      case ResponseTool::kFunction:
        j.set("type", Json::of("function_call"));
        break;
      case ResponseTool::kCustom:
        j.set("type", Json::of("custom_tool_call"));
        break;
      case ResponseTool::kLocalShell:
        j.set("type", Json::of("local_shell_call"));
        break;
      case ResponseTool::kToolSearch:
        j.set("type", Json::of("tool_search_call"));
        j.set("execution", Json::of("client"));
        break;
    }
    j.set("status", Json::of(std::string(status)));
    j.set("call_id", Json::of(call.id));
    switch (tool.kind) {
      case ResponseTool::kFunction:
        if (!tool.name_space.empty()) j.set("namespace", Json::of(tool.name_space));
        j.set("name", Json::of(tool_name(call.name)));
        j.set("arguments", Json::of(call.arguments));
        break;
      case ResponseTool::kCustom:
        j.set("name", Json::of(call.name));
        j.set("input", Json::of(custom_input(call)));
        break;
      case ResponseTool::kLocalShell: {
        Json action = Json::object();
        action.set("type", Json::of("exec"));
        action.set("command", arguments.ok() ? (*arguments)["command"] : Json::array());
        action.set("env", Json::object());
        j.set("action", std::move(action));
        break;
      }
      case ResponseTool::kToolSearch:
        j.set("arguments", arguments.ok() ? *arguments : Json::object());
        break;
    }
    return j.dump();
  }

  std::string_view final_status() const {
    return answer_.finish == Finish::kLength ? "incomplete" : "completed";
  }

  std::string response(std::string_view status) const {
    std::string out =
        fmt::format(R"({{"id": "{}", "object": "response", "created_at": {}, "status": "{}")", id_,
                    created_, status);
    if (status == "failed") {
      const std::string code = error_.code.empty() ? "server_error" : error_.code;
      out += fmt::format(R"(, "error": {{"code": {}, "message": {}}})", json_quote(code),
                         json_quote(error_.message));
    } else {
      out += R"(, "error": null)";
    }
    out += fmt::format(R"(, "incomplete_details": {})",
                       status == "incomplete" ? R"({"reason": "max_output_tokens"})" : "null");
    for (const auto& [name, value] : echoed_.members)
      out += fmt::format(R"(, "{}": {})", name, value.dump());
    out += fmt::format(R"(, "output": [{}])", fmt::join(items_, ", "));
    if (status == "in_progress") return out + R"(, "usage": null})";
    const Usage& u = answer_.usage;
    return out +
           fmt::format(
               R"(, "usage": {{"input_tokens": {}, "input_tokens_details": {{"cached_tokens": {}}}, "output_tokens": {}, "output_tokens_details": {{"reasoning_tokens": {}}}, "total_tokens": {}}}}})",
               u.prompt, u.cached, u.completion, u.reasoning, u.prompt + u.completion);
  }

  const ResponseTools tools_;
  ResponseStore* store_;
  std::vector<ChatMessage> conversation_;
  const std::string id_ = new_id("resp");
  const int64_t created_;
  bool shows_reasoning_ = false, with_key_ = false;
  Json echoed_ = Json::object();
  ApiError error_;
  std::vector<std::string> items_;  // complete ones, as JSON
  int64_t sequence_ = 0;
  Open open_ = kNothing;
  std::string item_id_;
};

Result<std::vector<ChatMessage>> find_previous(Fields& in, const ApiContext& context) {
  const std::string id = in.text("previous_response_id");
  NW_TRY(in.status());
  if (id.empty()) return std::vector<ChatMessage>();
  std::optional<std::vector<ChatMessage>> found;
  if (context.responses) found = context.responses->find(id);
  if (!found)
    return bad_input(fmt::format(
        "previous_response_id: {} was not found; it was not stored or is forgotten: send the whole "
        "input",
        json_quote(id)));
  return *std::move(found);
}

}  // namespace

Result<ParsedTurn> parse_responses(const Json& body, const ApiContext& context) {
  Fields in(body);
  ParsedTurn out;
  TurnRequest& r = out.request;
  if (in.has("conversation"))
    in.fault("conversation",
             "conversations are not supported; send the whole input, or previous_response_id");
  in.only_default("background", Json::of(false));
  NW_ASSIGN(std::vector<ChatMessage> previous, find_previous(in, context));
  NW_TRY(in.status());
  const size_t n_instructions = in.text("instructions").empty() ? 0 : 1;
  NW_TRY(read_response_input(in, std::move(previous), r));
  std::vector<ChatMessage> conversation;
  if (in.boolean("store", true) && context.responses && r.messages.size() > n_instructions)
    conversation.assign(r.messages.begin() + static_cast<int64_t>(n_instructions),
                        r.messages.end());
  ResponseTools tools;
  NW_TRY(tools.read(in, r));
  r.parallel_tool_calls = in.boolean("parallel_tool_calls", true);
  read_sampling(in, context, r);
  read_stop(in, "stop", r);
  read_limit(in, "max_output_tokens", context, false, r);
  read_thinking(in, context.thinking, context, r);
  const Json& text = in.object("text");
  read_format(in, "text.format", text["format"], r);
  if (in.integer("top_logprobs", 0, 0, 20) > 0)
    in.fault("top_logprobs",
             "log probabilities are not supported here; /v1/chat/completions has them");
  r.client = in.text("prompt_cache_key", in["user"].text);
  const bool stream = in.boolean("stream", false);
  in.text("model");
  NW_TRY(in.status());
  out.form =
      std::make_unique<ResponsesForm>(body, context, std::move(tools), std::move(conversation));
  out.form->streaming = stream;
  return out;
}

}  // namespace narwhal::serve
