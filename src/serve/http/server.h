// HttpServer: HTTP/1.1 on a TCP port or a UNIX socket, one IO thread.
//
//   NW_ASSIGN(auto server, HttpServer::open(options, handler));
//   server->port();                 // the one chosen when options.port was 0
//   server->run();                  // until stop() is called from any thread
//
// Takes Content-Length and chunked bodies, keeps connections alive, answers Expect: 100-continue,
// refuses what breaks a limit. A client that closes its side is noticed at once, also while its
// request waits. Slow readers cost memory only, up to the backlog that the handler allows, and are
// dropped after write_stall_s without progress.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "narwhal/status.h"
#include "serve/http/message.h"

namespace narwhal::serve {

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 8000;        // 0 = any free one
  std::string unix_path;  // not empty: this socket instead of host and port
  size_t max_header_bytes = 64 << 10;
  size_t max_body_bytes = 64 << 20;
  int max_connections = 1024;
  int read_timeout_s = 300;  // for one request to arrive, or the next one to begin
  int write_stall_s = 60;
};

class HttpServer {
 public:
  // What the transport itself refuses (too large, no HTTP) is said in the body that `refuse` makes
  // of the path (empty when unknown), the status and a sentence.
  using Refuse =
      std::function<HttpReply(std::string_view path, int status, std::string_view message)>;

  // Binds and listens; kFailed with the reason when it cannot.
  static Result<std::unique_ptr<HttpServer>> open(HttpOptions options, Handler handler,
                                                  Refuse refuse);
  virtual ~HttpServer() = default;

  virtual int port() const = 0;
  virtual void run() = 0;
  // Any thread. No more connections; run() returns when open replies are complete or after
  // `grace_ms`.
  virtual void stop(int grace_ms) = 0;
  virtual void post(std::function<void()> f) = 0;
  virtual int n_connections() const = 0;
};

std::string_view status_text(int status);

}  // namespace narwhal::serve
