// POST /v1/chat/completions.
#include <fmt/format.h>

#include "serve/api/common.h"
#include "serve/random_id.h"
#include "text/chat_json.h"

namespace narwhal::serve {
namespace {

using text::Role;

Result<Role> role_of(const Json& role, std::string_view path) {
  if (role.text == "system" || role.text == "developer") return Role::kSystem;
  if (role.text == "user") return Role::kUser;
  if (role.text == "assistant") return Role::kAssistant;
  if (role.text == "tool" || role.text == "function") return Role::kTool;
  return bad_input(fmt::format(
      "{}.role: found {}, expected system, developer, user, assistant or tool", path, role.dump()));
}

Status read_calls(const Json& json, const std::string& path, text::Message& m) {
  const Json& calls = json["tool_calls"];
  if (!calls.is_null() && !calls.is_array())
    return bad_input(fmt::format("{}.tool_calls: expected an array", path));
  std::vector<std::pair<std::string, const Json*>> functions;
  for (const Json& call : calls.items) {
    const bool custom = call["type"].text == "custom";
    functions.emplace_back(call["id"].text, custom ? &call["custom"] : &call["function"]);
  }
  if (json["function_call"].is_object()) functions.emplace_back("", &json["function_call"]);
  for (const auto& [id, function] : functions) {
    const Json& name = (*function)["name"];
    const Json& arguments = (*function)["arguments"];
    if (!name.is_string())
      return bad_input(fmt::format("{}.tool_calls: a call without function.name", path));
    m.tool_calls.push_back({id, name.text,
                            arguments.is_string() ? arguments.text
                            : arguments.is_null() ? "{}"
                                                  : arguments.dump()});
  }
  return ok_status();
}

Status read_message(const Json& json, const std::string& path, bool is_last, TurnRequest& request) {
  if (!json.is_object()) return bad_input(fmt::format("{}: expected an object", path));
  ChatMessage out;
  text::Message& m = out.message;
  NW_ASSIGN(m.role, role_of(json["role"], path));
  NW_ASSIGN(m.content,
            read_content(json["content"], path + ".content",
                         m.role == Role::kAssistant ? "" : "\n\n", m.role == Role::kTool));
  m.tool_call_id = json["tool_call_id"].text;
  if (m.role == Role::kAssistant) {
    for (const char* name : {"reasoning_content", "reasoning", "thinking"}) {
      if (json[name].is_string() && m.reasoning.empty()) m.reasoning = json[name].text;
    }
    NW_TRY(read_calls(json, path, m));
    m.no_eos = is_last && json["prefix"].as_bool();
    if (m.no_eos && !m.tool_calls.empty())
      return bad_input(
          fmt::format("{}.prefix: a message with tool_calls cannot be continued", path));
  }
  request.messages.push_back(std::move(out));
  return ok_status();
}

Status read_tools(Fields& in, TurnRequest& request) {
  const Json& tools = in.array("tools");
  for (size_t i = 0; i < tools.items.size(); i++) {
    const Json& tool = tools.items[i];
    const std::string path = fmt::format("tools[{}]", i);
    if (!tool["function"].is_object()) {
      if (tool["type"].text == "function" || tool["type"].is_null())
        return bad_input(path + ".function: expected an object with a name");
      continue;  // a tool that its provider would run: not offered to the model
    }
    NW_TRY(add_tool(tool["function"], tool["function"]["strict"], path, request));
  }
  for (const Json& function : in.array("functions").items)
    NW_TRY(add_tool(function, {}, "functions", request));

  const Json& choice = in["tool_choice"];
  if (choice.is_null() || choice.text == "auto") return ok_status();
  if (choice.text == "none") return choose_tools(ToolChoice::kNone, {}, request);
  if (choice.text == "required") return choose_tools(ToolChoice::kRequired, {}, request);
  const std::string& type = choice["type"].text;
  if (type == "function")
    return choose_tools(ToolChoice::kRequired, {choice["function"]["name"].text}, request);
  if (type == "allowed_tools") {
    const Json& allowed = choice["allowed_tools"];
    std::vector<std::string> names;
    for (const Json& t : allowed["tools"].items) names.push_back(t["function"]["name"].text);
    if (allowed["mode"].text == "required")
      return choose_tools(ToolChoice::kRequired, std::move(names), request);
    return choose_tools(ToolChoice::kAuto, std::move(names), request);
  }
  return bad_input(fmt::format("tool_choice: found {}, expected auto, none, required or a function",
                               choice.dump()));
}

class ChatForm : public ReplyForm {
 public:
  ChatForm(std::string model, bool include_usage, bool logprobs)
      : id_("chatcmpl-" + random_hex(12)),
        created_(std::time(nullptr)),
        include_usage_(include_usage),
        logprobs_(logprobs) {
    model_ = Json::of(std::move(model)).dump();
    head_ = fmt::format(
        R"({{"id": "{}", "object": "chat.completion.chunk", "created": {}, "model": {}, )", id_,
        created_, model_);
  }

  void begin(std::string& out) override {
    chunk(R"({"role": "assistant", "content": ""})", "null", out);
  }

  void keep_alive(int n, std::string& out) override {
    out += ": keep-alive\n\n";
    // For clients that do not count comments as a sign of life.
    if (n % 3 == 0) chunk("{}", "null", out);
  }

  void stream_error(const ApiError& error, std::string& out) override {
    add_sse(out, "", openai_error(error));
  }

  std::string body() override {
    Json message = Json::object();
    message.set("role", Json::of("assistant"));
    message.set("content", answer_.content.empty() && !answer_.calls.empty()
                               ? Json()
                               : Json::of(answer_.content));
    if (!answer_.reasoning.empty()) message.set("reasoning_content", Json::of(answer_.reasoning));
    if (!answer_.calls.empty()) {
      Json calls = Json::array();
      for (const text::ToolCall& call : answer_.calls) calls.push(text::call_to_json(call));
      message.set("tool_calls", std::move(calls));
    }
    return fmt::format(
        R"({{"id": "{}", "object": "chat.completion", "created": {}, "model": {}, "system_fingerprint": "narwhal", "choices": [{{"index": 0, "message": {}, "logprobs": {}, "finish_reason": "{}"}}], "usage": {}, "timings": {}}})",
        id_, created_, model_, message.dump(),
        logprobs_json(answer_.logprobs, answer_.reasoning_logprobs), openai_finish(answer_.finish),
        usage_json(), timings_json(answer_.usage, answer_.timings).dump());
  }

 protected:
  void stream_event(const TurnEvent& e, std::string& out) override {
    switch (e.kind) {
      case TurnEvent::kReasoning:
        chunk(fmt::format(R"({{"reasoning_content": {}}})", json_quote(e.text)), "null", out);
        break;
      case TurnEvent::kContent:
        chunk(fmt::format(R"({{"content": {}}})", json_quote(e.text)), "null", out);
        break;
      case TurnEvent::kCallStart: {
        Json call = text::call_to_json(answer_.calls.back());
        Json indexed = Json::object();
        indexed.set("index", Json::of(n_calls()));
        for (auto& [name, value] : call.members) indexed.set(name, std::move(value));
        chunk(fmt::format(R"({{"tool_calls": [{}]}})", indexed.dump()), "null", out);
        break;
      }
      case TurnEvent::kCallArguments:
        chunk(fmt::format(R"({{"tool_calls": [{{"index": {}, "function": {{"arguments": {}}}}}]}})",
                          n_calls(), json_quote(e.text)),
              "null", out);
        break;
      case TurnEvent::kDone:
        if (answer_.logprobs.size() + answer_.reasoning_logprobs.size() > n_logprobs_sent_)
          chunk(R"({"content": ""})", "null", out);
        chunk("{}", fmt::format("\"{}\"", openai_finish(answer_.finish)), out);
        if (include_usage_)
          add_sse(out, "",
                  fmt::format(R"({}"choices": [], "usage": {}, "timings": {}}})", head_,
                              usage_json(), timings_json(answer_.usage, answer_.timings).dump()));
        out += "data: [DONE]\n\n";
        break;
      default:
        break;
    }
  }

 private:
  int64_t n_calls() const { return std::ssize(answer_.calls) - 1; }

  std::string logprobs_json(std::span<const std::string> content,
                            std::span<const std::string> reasoning) const {
    if (!logprobs_) return "null";
    return fmt::format(R"({{"content": [{}], "reasoning_content": [{}]}})",
                       fmt::join(content, ", "), fmt::join(reasoning, ", "));
  }

  std::string usage_json() const {
    const Usage& u = answer_.usage;
    return fmt::format(
        R"({{"prompt_tokens": {}, "completion_tokens": {}, "total_tokens": {}, "prompt_tokens_details": {{"cached_tokens": {}}}, "completion_tokens_details": {{"reasoning_tokens": {}}}, "prompt_cache_hit_tokens": {}, "prompt_cache_miss_tokens": {}}})",
        u.prompt, u.completion, u.prompt + u.completion, u.cached, u.reasoning, u.cached,
        u.prompt - u.cached);
  }

  void chunk(std::string_view delta, std::string_view finish, std::string& out) {
    std::string logprobs;
    if (logprobs_ && delta != "{}") {
      const std::span content(answer_.logprobs), reasoning(answer_.reasoning_logprobs);
      logprobs = fmt::format(
          R"("logprobs": {}, )",
          logprobs_json(content.subspan(n_content_sent_), reasoning.subspan(n_reasoning_sent_)));
      n_content_sent_ = content.size();
      n_reasoning_sent_ = reasoning.size();
      n_logprobs_sent_ = n_content_sent_ + n_reasoning_sent_;
    }
    fmt::format_to(std::back_inserter(out),
                   "data: {}\"choices\": [{{\"index\": 0, \"delta\": {}, {}\"finish_reason\": "
                   "{}}}]{}}}\n\n",
                   head_, delta, logprobs, finish, include_usage_ ? ", \"usage\": null" : "");
  }

  const std::string id_;
  const int64_t created_;
  const bool include_usage_, logprobs_;
  std::string model_, head_;
  size_t n_content_sent_ = 0, n_reasoning_sent_ = 0, n_logprobs_sent_ = 0;
};

}  // namespace

Result<ParsedTurn> parse_chat(const Json& body, const ApiContext& context) {
  Fields in(body);
  ParsedTurn out;
  TurnRequest& r = out.request;
  if (!in["messages"].is_array() || in["messages"].items.empty())
    return bad_input("messages: expected an array of at least one message");
  const auto& messages = in["messages"].items;
  for (size_t i = 0; i < messages.size(); i++)
    NW_TRY(read_message(messages[i], fmt::format("messages[{}]", i), i + 1 == messages.size(), r));
  NW_TRY(read_tools(in, r));
  r.parallel_tool_calls = in.boolean("parallel_tool_calls", true);
  read_sampling(in, context, r);
  read_stop(in, "stop", r);
  read_limit(in, in.has("max_completion_tokens") ? "max_completion_tokens" : "max_tokens", context,
             false, r);
  read_thinking(in, context.thinking, context, r);
  read_format(in, "response_format", in.object("response_format"), r);
  const bool logprobs = in.boolean("logprobs", false);
  const int64_t top = in.integer("top_logprobs", 0, 0, 20);
  if (logprobs) r.n_logprobs = static_cast<int>(top);
  in.only_default("n", Json::of(int64_t{1}));
  if (in.has("web_search_options")) in.fault("web_search_options", "web search is not supported");
  for (const Json& m : in.array("modalities").items) {
    if (m.text != "text")
      in.fault("modalities", "only \"text\" is supported, not supported: others");
  }
  r.client = in.text("prompt_cache_key", in["user"].text);
  const bool stream = in.boolean("stream", false);
  const bool usage = in["stream_options"]["include_usage"].as_bool();
  NW_TRY(in.status());
  out.form = std::make_unique<ChatForm>(in.text("model", context.model), usage, logprobs);
  out.form->streaming = stream;
  NW_TRY(in.status());
  return out;
}

}  // namespace narwhal::serve
