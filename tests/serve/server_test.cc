// What a server must do over time: streams against bodies, reuse, disconnects, limits.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <filesystem>

#include "base/file.h"
#include "serve/tool_table.h"
#include "server_fixture.h"

namespace narwhal::serve {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kWeather =
    R"({"name": "get_weather", "description": "Get the weather for a specific location", "parameters": {"type": "object", "properties": {"location": {"type": "string", "description": "The city name"}}, "required": ["location"]}})";

std::string chat_body(std::string_view text, std::string_view more = "") {
  return fmt::format(R"({{"messages": [{{"role": "user", "content": {}}}], "temperature": 0{}{}}})",
                     json_quote(text), more.empty() ? "" : ", ", more);
}

// Of a chat stream: the deltas put together.
struct Streamed {
  std::string reasoning, content, name, arguments, finish;
};
Streamed join_chat(std::string_view body) {
  Streamed s;
  for (const SseEvent& e : parse_sse(body)) {
    const auto json = Json::parse(e.data);
    if (!json.ok() || (*json)["choices"].items.empty()) continue;
    const Json& choice = (*json)["choices"].items[0];
    const Json& delta = choice["delta"];
    s.reasoning += delta["reasoning_content"].text;
    s.content += delta["content"].text;
    for (const Json& call : delta["tool_calls"].items) {
      s.name += call["function"]["name"].text;
      s.arguments += call["function"]["arguments"].text;
    }
    s.finish += choice["finish_reason"].text;
  }
  return s;
}

TEST(Server, AStreamSaysWhatTheBodySays) {
  TestServer server;
  const std::string tools =
      fmt::format(R"("seed": 5, "tools": [{{"type": "function", "function": {}}}])", kWeather);
  for (const std::string& more : {std::string(R"("seed": 5)"), tools}) {
    for (const char* question :
         {"What is 47 + 85?", "What is the weather in Oslo?", "Do you like the sea?"}) {
      const Json body = server.post_json("/v1/chat/completions", chat_body(question, more));
      const HttpResult r =
          server.post("/v1/chat/completions", chat_body(question, more + R"(, "stream": true)"));
      const Streamed s = join_chat(r.body);
      const Json& choice = body["choices"].items[0];
      EXPECT_EQ(s.reasoning, choice["message"]["reasoning_content"].text);
      EXPECT_EQ(s.content, choice["message"]["content"].text);
      EXPECT_EQ(s.finish, choice["finish_reason"].text);
      const Json& calls = choice["message"]["tool_calls"];
      EXPECT_EQ(s.name, calls.items.empty() ? "" : calls.items[0]["function"]["name"].text);
      EXPECT_EQ(s.arguments,
                calls.items.empty() ? "" : calls.items[0]["function"]["arguments"].text);
      EXPECT_TRUE(r.body.ends_with("data: [DONE]\n\n"));
    }
  }
}

TEST(Server, TheSecondRequestReusesThePrompt) {
  TestServer server;
  const std::string body = chat_body(long_text(100), R"("max_tokens": 4, "thinking": false)");
  const Json first = server.post_json("/v1/chat/completions", body)["usage"];
  const Json second = server.post_json("/v1/chat/completions", body)["usage"];
  const int64_t n = first["prompt_tokens"].as_int();
  EXPECT_GT(n, 300);
  EXPECT_EQ(second["prompt_tokens"].as_int(), n);
  EXPECT_EQ(first["prompt_tokens_details"]["cached_tokens"].as_int(), 0);
  EXPECT_GE(second["prompt_tokens_details"]["cached_tokens"].as_int(), n - 160);
  EXPECT_EQ(
      second["prompt_cache_hit_tokens"].as_int() + second["prompt_cache_miss_tokens"].as_int(), n);
}

// A client of the chat API that goes through tool rounds. How it sends turns back is its habit.
struct Habits {
  bool drops_reasoning = false, respells_arguments = false;
};
int64_t worst_miss(TestServer& server, Habits habits, int n_rounds) {
  Json messages = Json::array();
  const auto add = [&](std::string_view json) { messages.push(*Json::parse(json)); };
  add(R"({"role": "system", "content": "You are a helpful assistant."})");
  int64_t worst = 0, total_before = 0;
  const char* cities[] = {"Oslo", "Rome", "Paris", "Lima", "Cairo"};
  for (int round = 0; round < n_rounds; round++) {
    if (messages.items.back()["role"].text != "tool")
      add(fmt::format(R"({{"role": "user", "content": "What is the weather in {}?"}})",
                      cities[round % 5]));
    const Json reply = server.post_json(
        "/v1/chat/completions",
        fmt::format(
            R"({{"messages": {}, "temperature": 0, "max_tokens": 300, "tools": [{{"type": "function", "function": {}}}]}})",
            messages.dump(), kWeather));
    const Json& usage = reply["usage"];
    if (round > 0)
      worst =
          std::max(worst, total_before - usage["prompt_tokens_details"]["cached_tokens"].as_int());
    total_before = usage["total_tokens"].as_int();
    Json message = reply["choices"].items[0]["message"];
    if (habits.drops_reasoning)
      std::erase_if(message.members, [](const auto& m) { return m.first == "reasoning_content"; });
    const Json calls = message["tool_calls"];
    if (habits.respells_arguments && !calls.items.empty()) {
      Json changed = calls;
      for (Json& call : changed.items) {
        std::string arguments = call["function"]["arguments"].text;
        arguments.erase(std::remove(arguments.begin(), arguments.end(), ' '), arguments.end());
        Json function = call["function"];
        function.set("arguments", Json::of(arguments));
        call.set("function", function);
      }
      message.set("tool_calls", changed);
    }
    messages.push(message);
    for (const Json& call : calls.items)
      add(fmt::format(
          R"({{"role": "tool", "tool_call_id": "{}", "content": "cloudy, {} degrees"}})",
          call["id"].text, round));
  }
  return worst;
}

TEST(Server, ToolRoundsGoOnFromTheStateOfTheLastOne) {
  for (const Habits habits : {Habits{}, Habits{.drops_reasoning = true},
                              Habits{.respells_arguments = true}, Habits{true, true}}) {
    TestServer server;
    EXPECT_LE(
        worst_miss(server, habits, habits.drops_reasoning && habits.respells_arguments ? 10 : 4), 8)
        << habits.drops_reasoning << habits.respells_arguments;
  }
}

// A folder that is empty at the start and gone at the end.
struct EmptyFolder {
  const std::string path =
      (std::filesystem::temp_directory_path() / "narwhal_server_disk").string();
  EmptyFolder() { std::filesystem::remove_all(path); }
  ~EmptyFolder() { std::filesystem::remove_all(path); }
};

TEST(Server, ToolRoundsSurviveARestart) {
  const EmptyFolder folder;
  Json messages = Json::array();
  const auto ask = [&](TestServer& server) {
    return server.post_json(
        "/v1/chat/completions",
        fmt::format(
            R"({{"messages": {}, "temperature": 0, "max_tokens": 300, "tools": [{{"type": "function", "function": {}}}]}})",
            messages.dump(), kWeather));
  };
  messages.push(*Json::parse(
      fmt::format(R"({{"role": "system", "content": {}}})", json_quote(long_text(200)))));
  messages.push(*Json::parse(R"({"role": "user", "content": "What is the weather in Oslo?"})"));
  int64_t total = 0;
  for (int round = 0; round < 3; round++) {
    TestServer server({}, 8192, 2, folder.path);
    const Json reply = ask(server);
    const Json& usage = reply["usage"];
    const int64_t cached = usage["prompt_tokens_details"]["cached_tokens"].as_int();
    if (round > 0) {
      EXPECT_GT(cached, total - 512) << "round " << round;
      EXPECT_GT(server.service().turn_memory().n_entries(), 1u) << "the turn came back";
    }
    total = usage["total_tokens"].as_int();
    // The client drops reasoning: only turn memory can bring it back.
    Json message = reply["choices"].items[0]["message"];
    std::erase_if(message.members, [](const auto& m) { return m.first == "reasoning_content"; });
    messages.push(message);
    for (const Json& call : message["tool_calls"].items)
      messages.push(*Json::parse(fmt::format(
          R"({{"role": "tool", "tool_call_id": "{}", "content": "cloudy"}})", call["id"].text)));
    if (message["tool_calls"].items.empty())
      messages.push(*Json::parse(R"({"role": "user", "content": "And in Rome?"})"));
  }
}

uint64_t bytes_of_files(const std::string& folder) {
  uint64_t n = 0;
  for (const auto& e : std::filesystem::directory_iterator(folder))
    if (e.path().extension() == ".block" || e.path().extension() == ".frontier") n += e.file_size();
  return n;
}

TEST(Server, ConversationsShareTheirSystemTextOnDisk) {
  const EmptyFolder folder;
  const std::string system = json_quote(long_text(650));
  const auto ask = [&](TestServer& server, int i) {
    const Json reply = server.post_json(
        "/v1/chat/completions",
        fmt::format(
            R"({{"messages": [{{"role": "system", "content": {}}}, {{"role": "user", "content": "Item {}?"}}], "thinking": false, "temperature": 0, "max_tokens": 8}})",
            system, i * 37));
    const Json& usage = reply["usage"];
    return std::pair{usage["prompt_tokens"].as_int(),
                     usage["prompt_tokens_details"]["cached_tokens"].as_int()};
  };
  uint64_t one = 0;
  {
    TestServer server({}, 8192, 2, folder.path);
    ask(server, 0);
  }
  one = bytes_of_files(folder.path);
  {
    TestServer server({}, 8192, 2, folder.path);
    for (int i = 1; i < 20; i++) {
      const auto [n, cached] = ask(server, i);
      EXPECT_GT(cached, n - 192) << "conversation " << i;
    }
    EXPECT_NE(server.get("/metrics").body.find("narwhal_kv_disk_hits_total 1"), std::string::npos);
  }
  EXPECT_GT(one, 0u);
  EXPECT_LT(bytes_of_files(folder.path), one + one * 8 / 10);
  TestServer server({}, 8192, 2, folder.path);
  const auto [n, cached] = ask(server, 999);
  EXPECT_GT(cached, n - 192) << "after a restart, too";
}

// What was computed in other tokens than the tokenizer would choose is found by its text, in memory
// and on disk.
TEST(Server, AnotherSpellingOfTheSameTextIsReused) {
  const EmptyFolder folder;
  const std::string text = long_text(120);
  std::string ids;
  int64_t n_ids = 0;
  const auto cached = [](const Json& reply) {
    return reply["usage"]["prompt_tokens_details"]["cached_tokens"].as_int();
  };
  const std::string whole = fmt::format(R"({{"prompt": {}, "max_tokens": 1, "temperature": 0}})",
                                        json_quote(text + " And so it ended."));
  {
    TestServer server({}, 8192, 2, folder.path);
    for (const char c : text) {  // a token a byte
      const Json one =
          server.post_json("/tokenize", fmt::format(R"({{"content": {}, "add_special": {}}})",
                                                    json_quote(std::string(1, c)), n_ids == 0));
      for (const Json& id : one["tokens"].items) ids += (n_ids++ ? "," : "") + id.text;
    }
    EXPECT_EQ(cached(server.post_json("/v1/completions",
                                      fmt::format(R"({{"prompt": [{}], "max_tokens": 1}})", ids))),
              0);
    EXPECT_GE(cached(server.post_json("/v1/completions", whole)), n_ids - 8) << "in memory";
  }
  TestServer server({}, 8192, 2, folder.path);
  EXPECT_GE(cached(server.post_json("/v1/completions", whole)), n_ids - 512) << "on disk";
}

TEST(Server, ChangedHistoryAnswersAsAColdServer) {
  const auto conversation = [](const char* first) {
    return fmt::format(
        R"({{"messages": [{{"role": "user", "content": {}}}, {{"role": "assistant", "content": "Noted."}}, {{"role": "user", "content": "What is 12 + 30?"}}], "temperature": 0}})",
        json_quote(std::string(first) + long_text(40)));
  };
  TestServer warm, cold;
  const auto answer = [&](TestServer& s, const char* first) {
    return s.post_json("/v1/chat/completions", conversation(first))["choices"]
        .items[0]["message"]
        .dump();
  };
  answer(warm, "The cat is red. ");
  EXPECT_EQ(answer(warm, "The dog is red. "), answer(cold, "The dog is red. "));
}

TEST(Server, TheSameSeedGivesTheSameTokensAmongOthers) {
  TestServer server;
  const std::string body =
      R"({"messages": [{"role": "user", "content": "Tell a story."}], "temperature": 1, "seed": 11, "max_tokens": 60})";
  const auto answer = [&] {
    return server.post_json("/v1/chat/completions", body)["choices"].dump();
  };
  const std::string alone = answer();
  std::vector<std::thread> others;
  std::atomic<bool> stop = false;
  for (int i = 0; i < 3; i++) {
    others.emplace_back([&, i] {
      while (!stop)
        server.post(
            "/v1/chat/completions",
            fmt::format(
                R"({{"messages": [{{"role": "user", "content": "{} {}"}}], "max_tokens": 30}})",
                long_text(30 + i), i));
    });
  }
  for (int i = 0; i < 3; i++) EXPECT_EQ(answer(), alone);
  stop = true;
  for (auto& t : others) t.join();
}

TEST(Server, KeepsWaitingClientsPatient) {
  TestServer server([](ServeOptions& o) { o.keep_alive_s = 0.05; }, 32768, 1);
  const std::string text = long_text(250);
  // The only session is busy with a long prompt; the second client waits in the queue.
  const auto stream = [&](std::string_view path, std::string_view body) {
    const std::string whole = fmt::format(fmt::runtime(body), json_quote(text));
    return server.post(path, whole).body;
  };
  const std::string chat = stream(
      "/v1/chat/completions",
      R"({{"messages": [{{"role": "user", "content": {}}}], "stream": true, "max_tokens": 2}})");
  EXPECT_NE(chat.find(": keep-alive\n\n"), chat.npos);
  EXPECT_NE(chat.find("\"delta\": {}, \"finish_reason\": null"), chat.npos);
  const std::string messages = stream(
      "/v1/messages",
      R"({{"system": "Other.", "messages": [{{"role": "user", "content": {}}}], "stream": true, "max_tokens": 2}})");
  EXPECT_GT(
      std::ranges::count_if(parse_sse(messages), [](const auto& e) { return e.name == "ping"; }),
      2);
  const std::string responses =
      stream("/v1/responses",
             R"({{"instructions": "More.", "input": {}, "stream": true, "max_output_tokens": 2}})");
  EXPECT_GT(std::ranges::count_if(parse_sse(responses),
                                  [](const auto& e) { return e.name == "response.in_progress"; }),
            2);
}

TEST(Server, AClientThatLeavesWhileReadingFindsTheWorkDone) {
  TestServer server({}, 32768, 2);
  const Metrics& m = server.service().metrics();
  const std::string body = chat_body(long_text(300), R"("max_tokens": 2, "thinking": false)");
  {
    Client c(server.port());
    c.post("/v1/chat/completions", body);
    ASSERT_TRUE(eventually([&] { return m.steps > 1; }));
  }
  ASSERT_TRUE(eventually([&] { return m.cancelled == 1; })) << "at the end of a step";
  // The retry attaches to what is read on.
  const Json usage = server.post_json("/v1/chat/completions", body)["usage"];
  EXPECT_GT(usage["prompt_tokens_details"]["cached_tokens"].as_int(), 100);
  EXPECT_EQ(m.completed, 1);
}

TEST(Server, AClientThatLeavesWhileWritingStopsIt) {
  TestServer server;
  const Metrics& m = server.service().metrics();
  {
    Client c(server.port());
    c.post("/v1/completions",
           R"({"prompt": "Once", "stream": true, "temperature": 2, "max_tokens": 4000})");
    ASSERT_FALSE(c.receive().empty());
    ASSERT_TRUE(eventually([&] { return m.generated_tokens > 5; }));
  }
  ASSERT_TRUE(eventually([&] { return m.running == 0; }, 500ms));
  EXPECT_EQ(m.cancelled, 1);
  EXPECT_LT(m.generated_tokens, 3000);
}

TEST(Server, ASlowReaderHarmsNobody) {
  TestServer server([](ServeOptions& o) { o.scheduler.max_backlog = 20000; });
  Client slow(server.port(), 2048);
  slow.post(
      "/v1/completions",
      R"({"prompt": "Once", "stream": true, "temperature": 1, "seed": 1, "max_tokens": 1500, "logit_bias": {"1": -100}})");
  for (int i = 0; i < 3; i++) server.post_json("/v1/chat/completions", chat_body("What is 4 + 5?"));
  const HttpResult all = slow.read();
  EXPECT_TRUE(all.body.ends_with("data: [DONE]\n\n")) << all.body.size();
}

std::shared_ptr<const Script> script_of(std::string_view json) {
  const std::string path = fmt::format("{}/script-{}.json", testing::TempDir(), ::getpid());
  auto file = AtomicFile::create(path);
  EXPECT_TRUE(file.ok() && file->write_at(0, json.data(), json.size()).ok() && file->commit().ok());
  auto script = Script::read(path);
  EXPECT_TRUE(script.ok()) << script.status().message();
  return std::make_shared<const Script>(*std::move(script));
}

TEST(Server, AMalformedBlockIsWrittenAgainFromItsBeginning) {
  const std::string tools = fmt::format(
      R"("thinking": false, "tools": [{{"type": "function", "function": {}}}])", kWeather);
  const std::string body = chat_body("What is the weather in Oslo?", tools);
  TestServer plain;
  TestServer broken([&](ServeOptions& o) {
    o.script = script_of(fmt::format(
        R"([{{"tool": "get_weather", "after": "user", "write": "\n\n<｜DSML｜tool_calls>\n{}"}}])",
        std::string(300, 'x')));
  });
  const auto message = [](const Json& reply) {
    Json m = reply["choices"].items[0]["message"];
    std::string out = m["content"].dump();
    for (const Json& call : m["tool_calls"].items) out += call["function"].dump();
    return out;
  };
  // What the script had written is gone: the model goes on as if it had never been.
  const Json reply = broken.post_json("/v1/chat/completions", body);
  EXPECT_EQ(message(reply), message(plain.post_json("/v1/chat/completions", body)));
  EXPECT_EQ(broken.service().metrics().rewritten_blocks, 1);
  EXPECT_EQ(broken.service().metrics().repaired_calls, 1);
}

TEST(Server, AResponseIsContinuedByItsId) {
  TestServer server;
  const auto ask = [&](std::string_view members) {
    return server.post_json(
        "/v1/responses",
        fmt::format(
            R"({{"temperature": 0, "tools": [{{"type": "function", {}}}], "max_output_tokens": 300, {}}})",
            kWeather.substr(1, kWeather.size() - 2), members));
  };
  const auto text_of = [](const Json& response) {
    std::string out;
    for (const Json& item : response["output"].items)
      out += item["type"].text + item["arguments"].text + item["content"].dump();
    return out;
  };
  const Json first = ask(R"("input": "What is the weather in Oslo?")");
  const Json call = first["output"].items.back();
  ASSERT_EQ(call["type"].text, "function_call") << first.dump();
  EXPECT_TRUE(first["store"].as_bool());
  const std::string output = fmt::format(
      R"({{"type": "function_call_output", "call_id": {}, "output": "cloudy, 3 degrees"}})",
      call["call_id"].dump());
  const Json second =
      ask(fmt::format(R"("previous_response_id": {}, "input": [{}])", first["id"].dump(), output));
  EXPECT_EQ(second["previous_response_id"].text, first["id"].text);
  // Nothing of the first round was computed again, and the same was said as with the whole input.
  EXPECT_GE(second["usage"]["input_tokens_details"]["cached_tokens"].as_int() + 8,
            first["usage"]["total_tokens"].as_int());
  Json whole = *Json::parse(R"([{"role": "user", "content": "What is the weather in Oslo?"}])");
  for (const Json& item : first["output"].items) whole.push(item);
  whole.push(*Json::parse(output));
  const Json same = ask(fmt::format(R"("store": false, "input": {})", whole.dump()));
  EXPECT_EQ(text_of(second), text_of(same));
  EXPECT_FALSE(same["store"].as_bool());
  const auto status = [&](const Json& id) {
    return server
        .post("/v1/responses",
              fmt::format(R"({{"input": "x", "previous_response_id": {}}})", id["id"].dump()))
        .status;
  };
  EXPECT_EQ(status(same), 404) << "it was not to be stored";
  EXPECT_EQ(status(second), 200);
}

TEST(Server, ATraceTellsEverythingOfATurn) {
  const std::string folder = fmt::format("{}/trace-{}", testing::TempDir(), ::getpid());
  std::filesystem::create_directory(folder);
  {
    TestServer server([&](ServeOptions& o) { o.trace_dir = folder; });
    const std::string tools =
        fmt::format(R"("tools": [{{"type": "function", "function": {}}}])", kWeather);
    server.post_json("/v1/chat/completions", chat_body("What is the weather in Oslo?", tools));
    server.post_json("/v1/chat/completions", chat_body("What is the weather in Rome?", tools));
  }
  const auto first = read_file(folder + "/turn-000001.txt");
  const auto second = read_file(folder + "/turn-000002.txt");
  ASSERT_TRUE(first.ok() && second.ok());
  for (const char* part :
       {"== cache\nsession 1 of 4 held 0 tokens", "== prompt (", "Oslo", "== written (",
        "== events\nstarted, turn ", "\nreasoning \"", "\ncall call_",
        " \"get_weather\"\narguments {\"location\": ", "\ncall ends\ndone\n"})
    EXPECT_NE(first->find(part), first->npos) << part << "\nin\n" << *first;
  // The second says where its prompt went another way.
  EXPECT_NE(second->find(" Rome"), second->npos) << *second;
  std::filesystem::remove_all(folder);
}

TEST(Server, ChunkedBodiesAndExpect) {
  TestServer server;
  const std::string body = chat_body("What is 4 + 5?");
  Client c(server.port());
  c.send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
      "chunked\r\n\r\n");
  for (char byte : body) c.send(fmt::format("1\r\n{}\r\n", byte));
  c.send("0\r\n\r\n");
  EXPECT_EQ(c.read().status, 200);
  // The same connection again.
  c.send(
      fmt::format("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: "
                  "100-continue\r\nContent-Length: {}\r\n\r\n",
                  body.size()));
  EXPECT_NE(c.receive().find("100 Continue"), std::string::npos);
  c.send(body);
  EXPECT_EQ(c.read().status, 200);
}

TEST(Server, BrokenRequests) {
  TestServer server([](ServeOptions& o) { o.http.max_body_bytes = 100'000; });
  const auto status = [&](std::string_view bytes) {
    Client c(server.port());
    c.send(bytes);
    return c.read().status;
  };
  EXPECT_EQ(status("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                   "2\r\nContent-Length: 3\r\n\r\n{}"),
            400);
  EXPECT_EQ(status("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                   "2\r\nTransfer-Encoding: chunked\r\n\r\n{}"),
            400);
  EXPECT_EQ(status("no HTTP at all\r\n\r\n"), 400);
  EXPECT_EQ(
      status("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(70'000, 'x') + "\r\n\r\n"),
      431);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 403);
  const HttpResult large = server.post("/v1/messages", std::string(150'000, ' '));
  EXPECT_EQ(large.status, 413);
  EXPECT_NE(large.body.find("request_too_large"), std::string::npos);
  std::string deep(300, '[');
  EXPECT_EQ(server.post("/v1/chat/completions", deep).status, 400);
  EXPECT_EQ(server.post("/v1/chat/completions", "{\"a\": \"\xC3\"}").status, 400);
  EXPECT_EQ(server.post("/v1/chat/completions", "").status, 400);
  EXPECT_EQ(server.get("/health").status, 200);
}

TEST(Server, TooLongAPromptInEveryDialect) {
  TestServer server({}, 512, 1);
  const std::string text = json_quote(long_text(500));
  const auto chat =
      server.post("/v1/chat/completions",
                  fmt::format(R"({{"messages": [{{"role": "user", "content": {}}}]}})", text));
  EXPECT_EQ(chat.status, 400);
  EXPECT_NE(chat.body.find("maximum context length is 512 tokens"), std::string::npos) << chat.body;
  EXPECT_NE(chat.body.find("context_length_exceeded"), std::string::npos);
  const auto messages = server.post(
      "/v1/messages", fmt::format(R"({{"messages": [{{"role": "user", "content": {}}}]}})", text));
  EXPECT_NE(messages.body.find("prompt is too long: "), std::string::npos) << messages.body;
  EXPECT_NE(messages.body.find(" tokens > 512 maximum"), std::string::npos);
}

TEST(Server, AnswersUntilTheContextIsFull) {
  TestServer server({}, 256, 1);
  const Json r = server.post_json(
      "/v1/completions",
      R"({"prompt": "Once", "temperature": 1, "seed": 2, "max_tokens": 100000, "logit_bias": {"1": -100}})");
  EXPECT_EQ(r["choices"].items[0]["finish_reason"].text, "length");
  EXPECT_EQ(r["usage"]["total_tokens"].as_int(), 256);
}

TEST(Server, AKeyWhenAsked) {
  TestServer server([](ServeOptions& o) { o.access.keys = {"secret"}; });
  EXPECT_EQ(server.get("/v1/models").status, 401);
  EXPECT_EQ(server.get("/v1/models", "Authorization: Bearer secret\r\n").status, 200);
  EXPECT_EQ(server.get("/v1/models", "x-api-key: secret\r\n").status, 200);
  EXPECT_EQ(server.get("/v1/models", "x-api-key: secres\r\n").status, 401);
  EXPECT_EQ(server.get("/health").status, 200);
  const HttpResult r = server.post("/v1/messages", "{}");
  EXPECT_NE(r.body.find(R"("type": "authentication_error")"), std::string::npos) << r.body;
}

TEST(Server, CorsWhenAsked) {
  TestServer server([](ServeOptions& o) { o.access.cors = true; });
  Client c(server.port());
  c.get("/v1/models", "Origin: http://evil.example\r\n");
  EXPECT_NE(c.read().head.find("Access-Control-Allow-Origin: *"), std::string::npos);
}

TEST(Server, AFullQueueSaysSo) {
  TestServer server([](ServeOptions& o) { o.scheduler.max_queue = 1; }, 16384, 1);
  const Metrics& m = server.service().metrics();
  std::vector<std::unique_ptr<Client>> clients;
  const std::string body = chat_body(long_text(200), R"("max_tokens": 2)");
  for (int i = 0; i < 2; i++) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->post("/v1/chat/completions", body);
    ASSERT_TRUE(eventually([&] { return m.running == 1 && m.queued == i; }));
  }
  const HttpResult refused =
      server.post("/v1/messages", R"({"messages": [{"role": "user", "content": "x"}]})");
  EXPECT_EQ(refused.status, 429);
  EXPECT_NE(refused.head.find("Retry-After: "), std::string::npos);
  EXPECT_NE(refused.body.find("rate_limit_error"), std::string::npos);
  // Counting does not wait in the queue.
  EXPECT_EQ(
      server
          .post("/v1/messages/count_tokens", R"({"messages": [{"role": "user", "content": "x"}]})")
          .status,
      200);
  for (auto& c : clients) EXPECT_EQ(c->read().status, 200);
}

TEST(Server, AnswersOnAUnixSocket) {
  const std::string path = fmt::format("{}/narwhal-{}.sock", testing::TempDir(), ::getpid());
  TestServer server([&](ServeOptions& o) { o.http.unix_path = path; });
  ASSERT_EQ(::access(path.c_str(), F_OK), 0);
  const std::string command = fmt::format("curl -s --unix-socket {} http://x/health", path);
  FILE* out = ::popen(command.c_str(), "r");
  char line[64] = "";
  const size_t n = std::fread(line, 1, sizeof line - 1, out);
  ::pclose(out);
  if (n > 0) {
    EXPECT_EQ(std::string(line, n), R"({"status": "ok"})");
  }
}

}  // namespace
}  // namespace narwhal::serve
