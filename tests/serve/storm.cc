// serve_storm [REQUESTS] [SEED]: damaged requests against a server in this process. The requests of
// the text files beside this one are cut, spliced, flipped and sent in broken ways, by four clients
// at once. The server must answer every one in the dialect's words or close the connection, go on
// serving, and hold no more descriptors, and not much more memory, than before.
// Prints what it saw; exit code 1 when something was wrong.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <random>

#include "cases.h"
#include "server_fixture.h"

namespace narwhal::serve {
namespace {

int64_t resident_mb() {
  const auto text = read_file("/proc/self/statm");
  if (!text.ok()) return 0;
  std::istringstream in(*text);
  int64_t all = 0, resident = 0;
  in >> all >> resident;
  return resident * ::sysconf(_SC_PAGESIZE) >> 20;
}

int64_t n_descriptors() {
  if (!std::filesystem::exists("/proc/self/fd")) return 0;
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return std::distance(begin(all), end(all));
}

class Storm {
 public:
  Storm(int port, uint64_t seed) : port_(port) {
    for (const auto& file : case_files()) {
      for (Case& c : read_cases(file)) seeds_.push_back(std::move(c));
    }
    for (size_t i = 0; i < random_.size(); i++) random_[i].seed(seed * 1000 + i);
  }

  void run(int n) {
    std::vector<std::thread> clients;
    for (auto& random : random_)
      clients.emplace_back([&, n] {
        for (int i = 0; i < n / std::ssize(random_); i++) one(random);
      });
    for (auto& t : clients) t.join();
  }

  const std::map<int, int>& statuses() const { return statuses_; }
  const std::vector<std::string>& faults() const { return faults_; }

 private:
  using Random = std::mt19937_64;

  void one(Random& random) {
    const auto below = [&](size_t n) { return n == 0 ? 0 : random() % n; };
    const Case& seed = seeds_[below(seeds_.size())];
    std::string body = seed.body, line = seed.request_line, headers = seed.headers;
    for (size_t k = below(4); k > 0; k--) damage(body, random);
    if (below(20) == 0) damage(line, random);
    if (below(20) == 0) damage(headers, random);
    const std::string start = fmt::format("{} HTTP/1.1\r\nHost: localhost\r\n{}", line, headers);
    Client c(port_);
    switch (below(12)) {
      case 0:  // leaves in the middle of its request
        c.send(fmt::format("{}Content-Length: {}\r\n\r\n{}", start, body.size() + 1 + below(100),
                           body));
        return;
      case 1:  // leaves while it is served
        c.send(fmt::format("{}Content-Length: {}\r\n\r\n{}", start, body.size(), body));
        if (below(2)) c.receive(static_cast<int>(below(30)));
        return;
      case 2: {  // chunks, whole or not
        std::string out = start + "Transfer-Encoding: chunked\r\n\r\n";
        for (size_t at = 0; at < body.size();) {
          const size_t n = std::min(body.size() - at, 1 + below(200));
          out += fmt::format("{:x}\r\n{}\r\n", n, body.substr(at, n));
          at += n;
        }
        out += "0\r\n\r\n";
        const bool broken = below(2) != 0;
        if (broken) damage(out, random);
        c.send(out);
        if (broken) c.finish();
        break;
      }
      case 3:  // a length that is not the body's
        c.send(
            fmt::format("{}Content-Length: {}\r\n\r\n{}", start, below(2 * body.size() + 2), body));
        c.finish();
        break;
      default:
        c.send(fmt::format("{}Content-Length: {}\r\n\r\n{}", start, body.size(), body));
    }
    check(c.read(line.starts_with("HEAD")), start + body);
  }

  // Changes a text as faulty clients, networks and attackers do.
  void damage(std::string& s, Random& random) {
    constexpr std::string_view kPieces[] = {"\"",
                                            "{",
                                            "}",
                                            "[",
                                            "]",
                                            ",",
                                            ":",
                                            "null",
                                            "-1",
                                            "1e999",
                                            "99999999999999999999",
                                            "true",
                                            "\\ud800",
                                            "\\u0000",
                                            "\xFF",
                                            std::string_view("\0", 1),
                                            "<｜DSML｜tool_calls>",
                                            "</think>",
                                            "\r\n",
                                            "0.5",
                                            "\"stream\": true, ",
                                            "\"max_tokens\": 1, ",
                                            "\"n\": 1, ",
                                            "{}",
                                            "[[[[[[[["};
    const auto below = [&](size_t n) { return n == 0 ? 0 : random() % n; };
    const size_t at = below(s.size() + 1), n = below(std::min<size_t>(s.size() - at, 64) + 1);
    switch (below(6)) {
      case 0:
        if (at < s.size()) s[at] = static_cast<char>(s[at] ^ (1 << below(8)));
        break;
      case 1:
        s.erase(at, n);
        break;
      case 2:
        s.insert(at, s.substr(at, n));
        break;
      case 3:
        s.insert(at, kPieces[below(std::size(kPieces))]);
        break;
      case 4:
        s.resize(at);
        break;
      default: {
        const std::string& other = seeds_[below(seeds_.size())].body;
        s = s.substr(0, at) + other.substr(std::min(at, other.size()));
      }
    }
  }

  void check(const HttpResult& r, const std::string& request) {
    const std::lock_guard lock(mutex_);
    statuses_[r.status]++;
    std::string fault;
    if (r.status >= 500 && r.status != 501 && r.status != 505) fault = "a fault of the server";
    if (r.status >= 400 && r.head.find("application/json") != r.head.npos && !r.body.empty()) {
      const auto json = Json::parse(r.body);
      if (!json.ok() || (*json)["error"]["message"].text.empty()) fault = "an error without form";
    }
    if (r.status == 200 && r.head.find("event-stream") != r.head.npos) {
      for (const SseEvent& e : parse_sse(r.body)) {
        if (e.data != "[DONE]" && !Json::parse(e.data).ok()) fault = "an event that is no JSON";
      }
    } else if (r.status == 200 && r.head.find("application/json") != r.head.npos &&
               !r.body.empty() && !Json::parse(r.body).ok()) {
      fault = "a body that is no JSON";
    }
    if (!fault.empty() && faults_.size() < 5)
      faults_.push_back(fmt::format("{}\nto {}\ncame {} {}", fault, request, r.status, r.body));
  }

  const int port_;
  std::vector<Case> seeds_;
  std::array<Random, 4> random_;
  std::mutex mutex_;
  std::map<int, int> statuses_;
  std::vector<std::string> faults_;
};

bool has_settled(TestServer& server, int64_t descriptors) {
  for (int i = 0; i < 200; i++) {
    const Metrics& m = server.service().metrics();
    if (m.running == 0 && m.queued == 0 && n_descriptors() <= descriptors) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

int run(int n, uint64_t seed) {
  TestServer server([](ServeOptions& o) { o.api.default_max_tokens = 6; }, 1024, 3);
  Storm storm(server.port(), seed);
  const int64_t descriptors = n_descriptors();
  storm.run(n / 2);
  const bool settled = has_settled(server, descriptors);
  const int64_t half_mb = resident_mb();
  storm.run(n - n / 2);
  const bool settled_again = has_settled(server, descriptors);
  const int64_t end_mb = resident_mb(), left = n_descriptors();

  const std::string answer =
      server
          .post_json("/v1/chat/completions",
                     R"({"messages": [{"role": "user", "content": "What is 4 + 5?"}],)"
                     R"( "temperature": 0, "thinking": false, "max_tokens": 20})")["choices"]
          .items[0]["message"]["content"]
          .text;
  fmt::print("{} requests:", n);
  for (const auto& [status, count] : storm.statuses())
    fmt::print(" {}x{}", count, status ? fmt::to_string(status) : "closed");
  fmt::print("; memory {} MB after half, {} MB at the end; descriptors {} before, {} after\n",
             half_mb, end_mb, descriptors, left);
  for (const std::string& fault : storm.faults()) fmt::print("{}\n", fault);
  // What the server remembers of turns may grow; what it leaks would grow like this many requests.
  const bool flat = end_mb - half_mb < 64;
  const bool good = settled && settled_again && flat && storm.faults().empty() &&
                    answer == "4 + 5 = 9." && !testing::Test::HasFailure();
  fmt::print("{} passed, {} failed\n", good ? 1 : 0, good ? 0 : 1);
  return good ? 0 : 1;
}

}  // namespace
}  // namespace narwhal::serve

int main(int argc, char** argv) {
  const int n = argc > 1 ? std::atoi(argv[1]) : 400;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  return narwhal::serve::run(n, seed);
}
