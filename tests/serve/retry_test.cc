// Clients that vanish and ask again.
#include <fmt/format.h>

#include "server_fixture.h"

namespace narwhal::serve {
namespace {

using namespace std::chrono_literals;

// Raw text of 300 tokens at a high temperature, without a seed: what is the same twice was computed
// once.
std::string wild(TestServer& server, bool stream) {
  const Json ends = server.post_json(
      "/tokenize",
      R"({"content": "<｜end▁of▁sentence｜><｜User｜><｜Assistant｜>", "parse_special": true})");
  std::string bias;
  for (const Json& id : ends["tokens"].items)
    bias += fmt::format("{}\"{}\": -100", bias.empty() ? "" : ", ", id.text);
  return fmt::format(
      R"({{"prompt": "Once", "temperature": 3, "max_tokens": 300, "logit_bias": {{{}}}, "stream": {}}})",
      bias, stream);
}

std::string text_of(std::string_view stream) {
  std::string text;
  for (const SseEvent& e : parse_sse(stream)) {
    const auto json = Json::parse(e.data);
    if (json.ok() && !(*json)["choices"].items.empty())
      text += (*json)["choices"].items[0]["text"].text;
  }
  return text;
}

// Takes the chunks of HTTP/1.1 out of what was received so far.
std::string unchunked(std::string raw) {
  raw.erase(0, raw.find("\r\n\r\n") + 4);
  std::string body;
  for (size_t line; (line = raw.find("\r\n")) != raw.npos;) {
    const size_t n = std::strtoull(raw.c_str(), nullptr, 16);
    if (n == 0 || raw.size() < line + 4 + n) break;
    body += raw.substr(line + 2, n);
    raw.erase(0, line + 4 + n);
  }
  return body;
}

TEST(Retry, WhileThePromptIsRead) {
  TestServer server({}, 32768, 2);
  const Metrics& m = server.service().metrics();
  const std::string body = fmt::format(
      R"({{"messages": [{{"role": "user", "content": {}}}], "max_tokens": 2, "thinking": false}})",
      json_quote(long_text(300)));
  for (int attempt = 1; attempt <= 3; attempt++) {
    Client c(server.port());
    const int64_t before = m.steps;
    c.post("/v1/chat/completions", body);
    ASSERT_TRUE(eventually([&] { return m.steps > before; }));
    c.close();
    ASSERT_TRUE(eventually([&] { return m.cancelled == attempt; }));
  }
  const Json usage = server.post_json("/v1/chat/completions", body)["usage"];
  EXPECT_GT(usage["prompt_tokens_details"]["cached_tokens"].as_int(), 300);
  // Every prompt token was computed about once, however often it was asked for.
  EXPECT_LT(m.prompt_tokens - m.cached_tokens, 4 * usage["prompt_tokens"].as_int());
}

TEST(Retry, WhileTheAnswerIsWritten) {
  TestServer server;
  const Metrics& m = server.service().metrics();
  const std::string body = wild(server, true);
  std::string seen;
  {
    Client c(server.port());
    c.post("/v1/completions", body);
    while (text_of(unchunked(seen)).size() < 40) seen += c.receive();
  }
  ASSERT_TRUE(eventually([&] { return m.cancelled == 1 && m.running == 0; }));
  const int64_t written = m.generated_tokens;
  EXPECT_LT(written, 300) << "nothing is written for nobody";
  const std::string again = text_of(server.post("/v1/completions", body).body);
  EXPECT_TRUE(again.starts_with(text_of(unchunked(seen)))) << seen << "\n" << again;
  EXPECT_EQ(m.resumed, 1);
  EXPECT_EQ(m.generated_tokens, 300) << "no token was sampled twice";
  // That one was taken, so the next is a new one.
  server.post("/v1/completions", body);
  EXPECT_EQ(m.resumed, 1);
  EXPECT_EQ(m.generated_tokens, 600);
}

// What was written but not yet on its way is part of the answer, too.
TEST(Retry, PiecesThatWaitedAreNotLost) {
  std::string body;
  std::string whole;
  {
    TestServer server;
    body = wild(server, true);
    body.replace(body.find("\"temperature\": 3"), 16, "\"temperature\": 0");
    whole = text_of(server.post("/v1/completions", body).body);
  }
  TestServer server([](ServeOptions& o) { o.scheduler.moment = 30ms; });
  const Metrics& m = server.service().metrics();
  std::string seen;
  {
    Client c(server.port());
    c.post("/v1/completions", body);
    while (text_of(unchunked(seen)).size() < 40) seen += c.receive();
  }
  ASSERT_TRUE(eventually([&] { return m.cancelled == 1 && m.running == 0; }));
  EXPECT_EQ(text_of(server.post("/v1/completions", body).body), whole);
}

TEST(Retry, WhileTheAnswerIsWrittenAndItsSessionWasTaken) {
  TestServer server({}, 8192, 1);
  const Metrics& m = server.service().metrics();
  const std::string body = wild(server, true);
  std::string seen;
  {
    Client c(server.port());
    c.post("/v1/completions", body);
    while (text_of(unchunked(seen)).size() < 40) seen += c.receive();
  }
  ASSERT_TRUE(eventually([&] { return m.cancelled == 1; }));
  server.post_json("/v1/completions", R"({"prompt": "Something else", "max_tokens": 3})");
  const std::string again = text_of(server.post("/v1/completions", body).body);
  EXPECT_TRUE(again.starts_with(text_of(unchunked(seen))));
  EXPECT_EQ(m.generated_tokens, 303);
}

TEST(Retry, JustBeforeTheEnd) {
  TestServer server;
  const Metrics& m = server.service().metrics();
  for (const bool stream : {false, true}) {
    const std::string body = wild(server, stream);
    const int64_t before = m.generated_tokens, completed = m.completed, resumed = m.resumed;
    {
      Client c(server.port());
      c.post("/v1/completions", body);
      ASSERT_TRUE(eventually([&] { return m.completed == completed + 1; }));
      // Its bytes are on the way; nobody reads them.
      std::this_thread::sleep_for(150ms);
    }
    std::this_thread::sleep_for(150ms);
    const HttpResult first = server.post("/v1/completions", body);
    EXPECT_EQ(first.status, 200);
    EXPECT_EQ(m.resumed, resumed + 1);
    EXPECT_EQ(m.generated_tokens, before + 300);
    EXPECT_EQ(m.completed, completed + 1);
    // Taken to its end: the next is a new one.
    EXPECT_NE(server.post("/v1/completions", body).body, first.body);
    EXPECT_EQ(m.generated_tokens, before + 600);
  }
}

TEST(Retry, OnlyTheSameRequestOfTheSameClient) {
  TestServer server;
  const Metrics& m = server.service().metrics();
  const std::string body = wild(server, false);
  const auto vanish = [&] {
    const int64_t completed = m.completed;
    Client c(server.port());
    c.post("/v1/completions", body, "Authorization: Bearer one\r\n");
    ASSERT_TRUE(eventually([&] { return m.completed == completed + 1; }));
    std::this_thread::sleep_for(150ms);
  };
  vanish();
  std::this_thread::sleep_for(150ms);
  server.post("/v1/completions", body, "Authorization: Bearer two\r\n");
  server.post("/v1/completions", body + " ", "Authorization: Bearer one\r\n");
  EXPECT_EQ(m.resumed, 0);
  server.post("/v1/completions", body, "Authorization: Bearer one\r\n");
  EXPECT_EQ(m.resumed, 1);
}

TEST(Retry, NotWithoutAWindow) {
  TestServer server([](ServeOptions& o) { o.scheduler.retry_s = 0; });
  const Metrics& m = server.service().metrics();
  const std::string body = wild(server, false);
  {
    Client c(server.port());
    c.post("/v1/completions", body);
    ASSERT_TRUE(eventually([&] { return m.completed == 1; }));
    std::this_thread::sleep_for(150ms);
  }
  std::this_thread::sleep_for(150ms);
  server.post("/v1/completions", body);
  EXPECT_EQ(m.resumed, 0);
}

}  // namespace
}  // namespace narwhal::serve
