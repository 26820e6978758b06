// One request and the reply to it, apart from any socket library.
//
//   server.handler = [](std::shared_ptr<Exchange> x) {
//     if (x->request().path == "/health") x->reply({200, "{}"});
//   };
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace narwhal::serve {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method = {}, path = {};  // path without the query
  Headers headers = {};                // names in lower case
  std::string body = {};
  bool from_unix_socket = false;

  std::string_view header(std::string_view lower_case_name) const {
    for (const auto& [name, value] : headers) {
      if (name == lower_case_name) return value;
    }
    return {};
  }
};

struct HttpReply {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  Headers headers = {};
};

// The reply to one request: whole, or as a stream of pieces. Methods belong to the IO thread but
// for those marked otherwise. After the client has gone, or once the reply is complete, writing
// does nothing.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;

  virtual void reply(HttpReply reply) = 0;
  virtual void begin(HttpReply head) = 0;  // its body is the first piece
  virtual void write(std::string_view piece) = 0;
  virtual void end() = 0;

  // Called once, when the client closes before the reply is complete.
  virtual void on_gone(std::function<void()> f) = 0;
  // Called once when the reply was complete: whether the client took all of it, as far as the
  // system can tell. A client that closes with bytes unread did not.
  virtual void on_receipt(std::function<void(bool taken)> f) = 0;
  // Called several times a second while the reply is not complete.
  virtual void on_tick(std::function<void()> f) = 0;

  // Any thread.
  virtual void post(std::function<void()> f) = 0;  // runs f on the IO thread
  virtual bool gone() const = 0;
  virtual size_t backlog() const = 0;  // bytes the client has not taken yet
};

using Handler = std::function<void(std::shared_ptr<Exchange>)>;

}  // namespace narwhal::serve
