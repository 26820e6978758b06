// Every kind of request that cannot be answered, in every dialect: the status, the form of the
// error, and the member it names.
#include <fmt/format.h>

#include <vector>

#include "server_fixture.h"

namespace narwhal::serve {
namespace {

enum Api : unsigned { kChat = 1, kCompletions = 2, kMessages = 4, kResponses = 8, kCount = 16 };
constexpr unsigned kTurns = kChat | kCompletions | kMessages | kResponses;
constexpr unsigned kAll = kTurns | kCount;

struct Dialect {
  Api api;
  const char* path;
  const char* least;  // the members a good request needs
};
constexpr Dialect kDialects[] = {
    {kChat, "/v1/chat/completions", R"("messages": [{"role": "user", "content": "x"}])"},
    {kCompletions, "/v1/completions", R"("prompt": "x")"},
    {kMessages, "/v1/messages",
     R"("max_tokens": 5, "messages": [{"role": "user", "content": "x"}])"},
    {kResponses, "/v1/responses", R"("input": "x")"},
    {kCount, "/v1/messages/count_tokens", R"("messages": [{"role": "user", "content": "x"}])"},
};

void expect_error(const HttpResult& r, const Dialect& d, int status, std::string_view param) {
  EXPECT_EQ(r.status, status) << r.body;
  EXPECT_NE(r.head.find("Content-Type: application/json"), r.head.npos) << r.head;
  const auto json = Json::parse(r.body);
  ASSERT_TRUE(json.ok()) << r.body;
  const Json& error = (*json)["error"];
  EXPECT_FALSE(error["message"].text.empty()) << r.body;
  EXPECT_FALSE(error["type"].text.empty()) << r.body;
  if (d.api == kMessages || d.api == kCount) {
    EXPECT_EQ((*json)["type"].text, "error") << r.body;
    EXPECT_TRUE((*json)["request_id"].text.starts_with("req_")) << r.body;
    EXPECT_EQ(error.find("param"), nullptr) << r.body;
    EXPECT_NE(error["message"].text.find(param), std::string::npos) << r.body;
  } else {
    EXPECT_NE(error.find("code"), nullptr) << r.body;
    ASSERT_NE(error.find("param"), nullptr) << r.body;
    EXPECT_EQ(error["param"].text, param) << r.body;
  }
}

TEST(Malformed, BodiesThatAreNoRequest) {
  TestServer server;
  const std::string deep = std::string(257, '[') + std::string(257, ']');
  const std::pair<const char*, std::string> bodies[] = {
      {"nothing", ""},
      {"blanks", "  \n"},
      {"no JSON", "model=x"},
      {"cut off", "{\"a\": "},
      {"data behind it", "{} {}"},
      {"no object", "[]"},
      {"a text", "\"x\""},
      {"too deep", fmt::format("{{\"a\": {}}}", deep)},
      {"bad UTF-8", "{\"a\": \"\xC3\x28\"}"},
      {"a NUL", std::string("{\"a\":\0 1}", 9)},
      {"twice a comma", "{\"a\": 1,, \"b\": 2}"},
      {"a bare word", "{\"a\": NaN}"},
  };
  for (const Dialect& d : kDialects) {
    for (const auto& [name, body] : bodies) {
      SCOPED_TRACE(fmt::format("{} {}", d.path, name));
      expect_error(server.post(d.path, body), d, 400, "");
    }
  }
  const Json e = *Json::parse(server.post("/v1/chat/completions", "{\"a\": 1,, }").body);
  EXPECT_NE(e["error"]["message"].text.find("byte 9"), std::string::npos) << e.dump();
}

TEST(Malformed, MembersOfTheWrongKindAreNamed) {
  struct Row {
    unsigned apis;
    const char* member;
    const char* param;
  };
  // For Anthropic, the param stands in the message.
  const Row rows[] = {
      {kAll, R"("temperature": "hot")", "temperature"},
      {kAll, R"("temperature": -0.1)", "temperature"},
      {kAll, R"("top_p": 1.5)", "top_p"},
      {kAll, R"("top_k": 1.5)", "top_k"},
      {kAll, R"("min_p": "x")", "min_p"},
      {kAll, R"("seed": "x")", "seed"},
      {kAll, R"("stream": "yes")", "stream"},
      {kAll, R"("model": 7)", "model"},
      {kAll, R"("logit_bias": {"x": 1})", "logit_bias"},
      {kAll, R"("logit_bias": {"1": 1000})", "logit_bias"},
      {kAll, R"("logit_bias": {"99999999": 1})", "logit_bias"},
      {kAll, R"("logit_bias": {"99999999999999999999": 1})", "logit_bias"},
      {kAll, R"("logit_bias": {"9 zzzzzzzzzzzzzzzzzzz": 1})", "logit_bias"},
      {kAll, R"("logit_bias": {"": 1})", "logit_bias"},
      {kAll, R"("presence_penalty": "x")", "presence_penalty"},
      {kChat | kCompletions | kResponses, R"("stop": "")", "stop"},
      {kChat | kCompletions | kResponses, R"("stop": 7)", "stop"},
      {kChat | kCompletions,
       R"("stop": ["1","2","3","4","5","6","7","8","9","a","b","c","d","e","f","g","h"])", "stop"},
      {kMessages | kCount, R"("stop_sequences": [""])", "stop_sequences"},
      {kChat | kCompletions, R"("max_tokens": 0)", "max_tokens"},
      {kChat | kCompletions | kCount, R"("max_tokens": -1)", "max_tokens"},
      {kChat | kCompletions | kCount, R"("max_tokens": 1.5)", "max_tokens"},
      {kChat, R"("max_completion_tokens": "many")", "max_completion_tokens"},
      {kResponses, R"("max_output_tokens": 0)", "max_output_tokens"},
      {kChat | kCompletions, R"("n": 2)", "n"},
      {kCompletions, R"("best_of": 3)", "best_of"},
      {kCompletions, R"("echo": true)", "echo"},
      {kCompletions, R"("logprobs": 99)", "logprobs"},
      {kCompletions, R"("suffix": 7)", "suffix"},
      {kChat, R"("top_logprobs": 21)", "top_logprobs"},
      {kChat, R"("response_format": "json")", "response_format"},
      {kChat, R"("response_format": {"type": "yaml"})", "response_format"},
      {kChat, R"("response_format": {"type": "json_schema"})", "response_format"},
      {kChat,
       R"("response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}})",
       "response_format"},
      {kChat, R"("modalities": ["audio"])", "modalities"},
      {kChat, R"("web_search_options": {})", "web_search_options"},
      {kChat, R"("parallel_tool_calls": 1)", "parallel_tool_calls"},
      {kChat | kResponses | kMessages | kCount, R"("thinking": {"type": "maybe"})",
       "thinking.type"},
      {kChat | kResponses, R"("thinking": {"type": "enabled", "budget_tokens": "x"})",
       "thinking.budget_tokens"},
      {kChat, R"("reasoning_effort": "utmost")", "reasoning_effort"},
      {kChat, R"("reasoning_effort": 50)", "reasoning_effort"},
      {kResponses, R"("reasoning": {"effort": "utmost"})", "reasoning"},
      {kMessages, R"("output_config": {"effort": "utmost"})", "output_config"},
      {kChat | kResponses | kMessages, R"("tools": {})", "tools"},
      {kChat, R"("tools": [{"type": "function"}])", "tools[0].function"},
      {kChat, R"("tools": [{"type": "function", "function": {}}])", "tools[0]"},
      {kChat, R"("tools": [{"type": "function", "function": {"name": "a\"b"}}])", "tools[0]"},
      {kMessages | kCount, R"("tools": [{"name": "a"}])", "tools[0].input_schema"},
      {kResponses, R"("tools": [{"type": "function", "name": "a<b"}])", "tools[0]"},
      {kChat | kResponses, R"("tool_choice": "required")", "tool_choice"},
      {kChat | kResponses, R"("tool_choice": "sometimes")", "tool_choice"},
      {kChat, R"("tool_choice": {"type": "function", "function": {"name": "a"}})", "tool_choice"},
      {kMessages, R"("tool_choice": {"type": "tool", "name": "a"})", "tool_choice"},
      {kMessages, R"("tool_choice": {"type": "often"})", "tool_choice.type"},
      {kMessages, R"("tool_choice": "auto")", "tool_choice"},
      {kMessages, R"("mcp_servers": [{}])", "mcp_servers"},
      {kMessages, R"("system": 7)", "system"},
      {kMessages, R"("system": [{"type": "image"}])", "system[0].type"},
      {kResponses, R"("background": true)", "background"},
      {kResponses, R"("conversation": "c")", "conversation"},
      {kResponses, R"("top_logprobs": 5)", "top_logprobs"},
      {kResponses, R"("instructions": [])", "instructions"},
      {kResponses, R"("text": {"format": {"type": "yaml"}})", "text.format"},
  };
  TestServer server;
  for (const Row& row : rows) {
    for (const Dialect& d : kDialects) {
      if (!(row.apis & d.api)) continue;
      SCOPED_TRACE(fmt::format("{} {}", d.path, row.member));
      // What comes first counts where a member stands twice.
      expect_error(server.post(d.path, fmt::format("{{{}, {}}}", row.member, d.least)), d, 400,
                   row.param);
    }
  }
}

TEST(Malformed, ConversationsThatAreNone) {
  struct Row {
    Api api;
    const char* body;
    const char* param;
  };
  const Row rows[] = {
      {kChat, R"({})", "messages"},
      {kChat, R"({"messages": []})", "messages"},
      {kChat, R"({"messages": "x"})", "messages"},
      {kChat, R"({"messages": ["x"]})", "messages[0]"},
      {kChat, R"({"messages": [{"content": "x"}]})", "messages[0].role"},
      {kChat, R"({"messages": [{"role": "wizard", "content": "x"}]})", "messages[0].role"},
      {kChat, R"({"messages": [{"role": "user", "content": 5}]})", "messages[0].content"},
      {kChat, R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
       "messages[0].content[0].type"},
      {kChat, R"({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]})",
       "messages[0].content[0].type"},
      {kChat, R"({"messages": [{"role": "system", "content": "x"}]})", "messages"},
      {kChat,
       R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]})",
       "messages"},
      {kChat,
       R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{}]}]})",
       "messages[1].tool_calls"},
      {kChat,
       R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": 3}]})",
       "messages[1].tool_calls"},
      {kCompletions, R"({})", "prompt"},
      {kCompletions, R"({"prompt": {}})", "prompt"},
      {kCompletions, R"({"prompt": ["a", "b"]})", "prompt"},
      {kCompletions, R"({"prompt": [1, -1]})", "prompt"},
      {kCompletions, R"({"prompt": [99999999]})", "prompt"},
      {kMessages, R"({"max_tokens": 5})", "messages"},
      {kMessages, R"({"max_tokens": 5, "messages": []})", "messages"},
      {kMessages, R"({"max_tokens": 5, "messages": [{"role": "tool", "content": "x"}]})",
       "messages[0].role"},
      {kMessages, R"({"max_tokens": 5, "messages": [{"role": "user", "content": 5}]})",
       "messages[0].content"},
      {kMessages,
       R"({"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "image"}]}]})",
       "messages[0].content[0].type"},
      {kMessages,
       R"({"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "document"}]}]})",
       "messages[0].content[0].type"},
      {kMessages,
       R"({"max_tokens": 5, "messages": [{"role": "assistant", "content": [{"type": "image"}]}]})",
       "messages[0].content[0].type"},
      {kCount, R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})",
       "messages[0].content[0].type"},
      {kResponses, R"({})", "input"},
      {kResponses, R"({"input": 5})", "input"},
      {kResponses, R"({"input": []})", "messages"},
      {kResponses, R"({"input": [{"type": "hologram"}]})", "input[0].type"},
      {kResponses, R"({"input": [{"type": "item_reference", "id": "x"}]})", "input[0].type"},
      {kResponses, R"({"input": [{"role": "wizard", "content": "x"}]})", "input[0].role"},
      {kResponses, R"({"input": [{"role": "user", "content": [{"type": "input_image"}]}]})",
       "input[0].content[0].type"},
      {kResponses, R"({"input": [{"role": "user", "content": [{"type": "input_file"}]}]})",
       "input[0].content[0].type"},
  };
  TestServer server;
  for (const Row& row : rows) {
    SCOPED_TRACE(row.body);
    for (const Dialect& d : kDialects) {
      if (d.api == row.api) expect_error(server.post(d.path, row.body), d, 400, row.param);
    }
  }
}

TEST(Malformed, TransportInEveryDialect) {
  TestServer server([](ServeOptions& o) {
    o.http.max_body_bytes = 10'000;
    o.access.keys = {"secret"};
  });
  const char* key = "x-api-key: secret\r\n";
  for (const Dialect& d : kDialects) {
    SCOPED_TRACE(d.path);
    const std::string good = fmt::format("{{{}}}", d.least);
    expect_error(server.post(d.path, good), d, 401, "");
    expect_error(server.post(d.path, good, "x-api-key: secrets\r\n"), d, 401, "");
    expect_error(server.post(d.path, std::string(20'000, ' '), key), d, 413, "");
    expect_error(server.get(d.path, key), d, 405, "");
    expect_error(server.post(std::string(d.path) + "/more", good, key), d, 404, "");
    expect_error(server.post(d.path, good, "x-api-key: secret\r\nOrigin: http://a.example\r\n"), d,
                 403, "");
    const auto raw = [&](std::string_view headers) {
      Client c(server.port());
      c.send(fmt::format("POST {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n{}", d.path, headers, "{}"));
      return c.read();
    };
    expect_error(raw("Content-Length: 2\r\nContent-Length: 3\r\n"), d, 400, "");
    expect_error(raw("Content-Length: two\r\n"), d, 400, "");
    expect_error(raw("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"), d, 400, "");
    expect_error(raw(fmt::format("X: {}\r\n", std::string(70'000, 'x'))), d, 431, "");
  }
  const HttpResult odd = server.get("/v1/\xFF\xC3", key);
  EXPECT_EQ(odd.status, 404);
  EXPECT_TRUE(Json::parse(odd.body).ok()) << odd.body;
  EXPECT_EQ(server.get("/health").status, 200);
}

TEST(Malformed, ButTheseAreLegal) {
  TestServer server({}, 32768, 1);
  std::string many;
  for (int i = 0; i < 1000; i++)
    many += R"({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, )";
  const char* last = R"({"role": "user", "content": ""}], "max_tokens": 1})";
  for (const char* path : {"/v1/chat/completions", "/v1/messages"}) {
    const HttpResult r = server.post(path, fmt::format("{{\"messages\": [{}{}", many, last));
    EXPECT_EQ(r.status, 200) << r.body;
  }
  const std::string deep = std::string(250, '[') + std::string(250, ']');
  EXPECT_EQ(
      server
          .post("/v1/chat/completions", fmt::format("{{\"metadata\": {}, {}, \"max_tokens\": 1}}",
                                                    deep, kDialects[0].least))
          .status,
      200);
}

}  // namespace
}  // namespace narwhal::serve
