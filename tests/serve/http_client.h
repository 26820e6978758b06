// A blocking HTTP client for tests: raw sockets, so that broken requests can be sent, too.
#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace narwhal::serve {

// How many times as long as without a sanitizer an answer may take.
#if defined(__SANITIZE_THREAD__)
inline constexpr int kSlowness = 20;
#else
inline constexpr int kSlowness = 1;
#endif

struct HttpResult {
  int status = 0;  // 0: the connection closed without an answer
  std::string head, body;
};

class Client {
 public:
  explicit Client(int port, int receive_buffer = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer > 0)
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<uint16_t>(port));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) close();
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  bool is_open() const { return fd_ >= 0; }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }

  // Nothing more will be sent.
  void finish() { ::shutdown(fd_, SHUT_WR); }

  void post(std::string_view path, std::string_view body, std::string_view headers = "") {
    send(fmt::format("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{}\r\n{}", path,
                     body.size(), headers, body));
  }
  void get(std::string_view path, std::string_view headers = "", std::string_view method = "GET") {
    send(fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", method, path, headers));
  }

  // Bytes that have come, waiting at most `ms` for the first; empty at the end or when none came.
  std::string receive(int ms = 120'000 * kSlowness) {
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, ms) <= 0) return {};
    char buffer[65536];
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n <= 0) {
      at_end_ = true;
      return {};
    }
    return {buffer, static_cast<size_t>(n)};
  }
  bool at_end() const { return at_end_; }

  // One whole reply; chunked bodies are put together.
  HttpResult read(bool without_body = false) {
    HttpResult r;
    size_t end;
    while ((end = input_.find("\r\n\r\n")) == input_.npos) {
      const std::string more = receive();
      if (more.empty()) return r;
      input_ += more;
    }
    r.head = input_.substr(0, end + 4);
    input_.erase(0, end + 4);
    r.status = std::atoi(r.head.c_str() + 9);
    if (r.status == 100) return read(without_body);
    if (without_body || r.status == 204) return r;
    const size_t length = r.head.find("Content-Length: ");
    if (length != r.head.npos) {
      const size_t n = static_cast<size_t>(std::atoll(r.head.c_str() + length + 16));
      while (input_.size() < n && more()) {
      }
      r.body = input_.substr(0, n);
      input_.erase(0, n);
      return r;
    }
    if (r.head.find("chunked") == r.head.npos) {
      while (more()) {
      }
      r.body = std::exchange(input_, {});
      return r;
    }
    for (;;) {
      size_t line;
      while ((line = input_.find("\r\n")) == input_.npos && more()) {
      }
      if (line == input_.npos) return r;
      const size_t n = std::strtoull(input_.c_str(), nullptr, 16);
      while (input_.size() < line + 4 + n && more()) {
      }
      r.body += input_.substr(line + 2, n);
      input_.erase(0, line + 4 + n);
      if (n == 0) return r;
    }
  }

 private:
  bool more() {
    const std::string bytes = receive();
    input_ += bytes;
    return !bytes.empty();
  }
  int fd_ = -1;
  bool at_end_ = false;
  std::string input_;
};

}  // namespace narwhal::serve
