// A server with the embedded model on a free port, in this process.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "base/json.h"
#include "http_client.h"
#include "narwhal/engine.h"
#include "serve/service.h"

namespace narwhal::serve {

class TestServer {
 public:
  explicit TestServer(const std::function<void(ServeOptions&)>& change = {}, int64_t n_ctx = 8192,
                      int n_sessions = 4, const std::string& kv_disk_dir = {}) {
    auto engine = Engine::open({.n_threads = 1,
                                .n_ctx = n_ctx,
                                .n_sessions = n_sessions,
                                .prefill_chunk = 128,
                                .kv_disk_dir = kv_disk_dir});
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    engine_ = *std::move(engine);
    ServeOptions o;
    o.http.port = 0;
    o.scheduler.n_sessions = n_sessions;
    o.api.model = "minnow";
    o.quiet = true;
    if (change) change(o);
    auto service = Service::open(*engine_, o);
    EXPECT_TRUE(service.ok()) << service.status().message();
    service_ = *std::move(service);
    thread_ = std::thread([this] { service_->run(); });
  }
  ~TestServer() {
    service_->stop();
    thread_.join();
  }

  int port() const { return service_->port(); }
  Service& service() { return *service_; }

  HttpResult post(std::string_view path, std::string_view body, std::string_view headers = "") {
    Client c(port());
    c.post(path, body, headers);
    return c.read();
  }
  HttpResult get(std::string_view path, std::string_view headers = "") {
    Client c(port());
    c.get(path, headers);
    return c.read();
  }
  Json post_json(std::string_view path, std::string_view body) {
    const HttpResult r = post(path, body);
    EXPECT_EQ(r.status, 200) << r.body;
    const auto json = Json::parse(r.body);
    EXPECT_TRUE(json.ok()) << r.body;
    return json.ok() ? *json : Json();
  }

 private:
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Service> service_;
  std::thread thread_;
};

// Whether the condition comes true within the limit.
template <class F>
bool eventually(F condition,
                std::chrono::milliseconds limit = std::chrono::seconds(20 * kSlowness)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

inline std::string long_text(int words) {
  std::string out;
  for (int i = 0; i < words; i++) out += fmt::format("item {} is blue. ", i % 977);
  return out;
}

// The data of a stream's events, in order, with their names.
struct SseEvent {
  std::string name, data;
};
inline std::vector<SseEvent> parse_sse(std::string_view body) {
  std::vector<SseEvent> out;
  SseEvent e;
  while (!body.empty()) {
    const size_t end = std::min(body.find('\n'), body.size());
    const std::string_view line = body.substr(0, end);
    body.remove_prefix(std::min(end + 1, body.size()));
    if (line.starts_with("event: ")) e.name = line.substr(7);
    if (line.starts_with("data: ")) e.data = line.substr(6);
    if (line.empty() && !e.data.empty()) out.push_back(std::exchange(e, {}));
  }
  return out;
}

}  // namespace narwhal::serve
