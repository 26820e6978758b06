// Requests and what must be answered, from the text files beside this one.
//
//   # name of the case
//   POST /v1/chat/completions
//   Header: value
//   {"body": ...}
//   == 200
//   has TEXT            the reply contains TEXT
//   not TEXT            it does not
//   is a.b[0].c JSON    that member of the JSON body has this value
//   events a b c        the names of the stream's events, repetitions counted once
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cases.h"
#include "serve/tool_table.h"
#include "server_fixture.h"

namespace narwhal::serve {
namespace {

const Json& member(const Json& json, std::string_view path) {
  const Json* at = &json;
  while (!path.empty()) {
    if (path[0] == '[') {
      const size_t i = static_cast<size_t>(std::atoi(path.data() + 1));
      static const Json kNone;
      at = i < at->items.size() ? &at->items[i] : &kNone;
      path.remove_prefix(path.find(']') + 1);
    } else {
      const size_t end = std::min(path.find_first_of(".["), path.size());
      at = &(*at)[path.substr(0, end)];
      path.remove_prefix(end);
    }
    if (path.starts_with('.')) path.remove_prefix(1);
  }
  return *at;
}

std::string event_names(std::string_view body) {
  std::string out, last;
  for (const SseEvent& e : parse_sse(body)) {
    const std::string name = e.name.empty() ? e.data : e.name;
    if (name != last) out += (out.empty() ? "" : " ") + name;
    last = name;
  }
  return out;
}

void check(const HttpResult& r, const std::string& line) {
  const size_t space = line.find(' ');
  const std::string kind = line.substr(0, space), rest = line.substr(space + 1);
  if (kind == "has") {
    EXPECT_NE((r.head + r.body).find(rest), std::string::npos) << rest << "\nin " << r.body;
  } else if (kind == "not") {
    EXPECT_EQ((r.head + r.body).find(rest), std::string::npos) << rest << "\nin " << r.body;
  } else if (kind == "events") {
    EXPECT_EQ(event_names(r.body), rest);
  } else if (kind == "is") {
    const size_t end = rest.find(' ');
    const auto body = Json::parse(r.body), expected = Json::parse(rest.substr(end + 1));
    ASSERT_TRUE(body.ok()) << r.body;
    ASSERT_TRUE(expected.ok()) << rest;
    const Json& found = member(*body, rest.substr(0, end));
    EXPECT_TRUE(json_equal(found, *expected)) << rest << "\nfound " << found.dump();
  } else {
    ADD_FAILURE() << "no check is called " << kind;
  }
}

TEST(Replay, EveryFile) {
  TestServer server;
  int n = 0;
  for (const auto& file : case_files()) {
    const auto cases = read_cases(file);
    ASSERT_FALSE(cases.empty()) << file;
    for (const Case& c : cases) {
      SCOPED_TRACE(fmt::format("{}: {}", file.filename().string(), c.name));
      Client client(server.port());
      client.send(fmt::format("{} HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {}\r\n\r\n{}",
                              c.request_line, c.headers, c.body.size(), c.body));
      const HttpResult r = client.read(c.request_line.starts_with("HEAD"));
      EXPECT_EQ(r.status, c.status) << r.body;
      for (const std::string& line : c.checks) check(r, line);
      n++;
    }
  }
  EXPECT_GT(n, 40);
}

}  // namespace
}  // namespace narwhal::serve
