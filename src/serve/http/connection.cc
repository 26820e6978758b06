#include "serve/http/connection.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <cctype>
#include <cerrno>
#include <utility>

namespace narwhal::serve {

namespace asio = boost::asio;
namespace http = boost::beast::http;

// The Exchange of one request. Holds the connection only while the reply is open.
class Reply : public Exchange, public std::enable_shared_from_this<Reply> {
 public:
  Reply(std::shared_ptr<Connection> connection, HttpRequest request, bool http11, bool keep_alive)
      : hub_(connection->hub_),
        connection_(std::move(connection)),
        request_(std::move(request)),
        http11_(http11),
        keep_alive_(keep_alive) {}

  const HttpRequest& request() const override { return request_; }

  void reply(HttpReply r) override {
    if (!connection_) return;
    std::string bytes = head(r);
    bytes += fmt::format("Content-Length: {}\r\n\r\n", r.body.size());
    if (request_.method != "HEAD") bytes += r.body;
    connection_->send(bytes);
    complete();
  }

  void begin(HttpReply r) override {
    if (!connection_) return;
    if (!http11_) keep_alive_ = false;
    connection_->send(head(r) + (http11_ ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n"));
    write(r.body);
  }

  void write(std::string_view piece) override {
    if (!connection_ || piece.empty()) return;
    if (http11_) connection_->send(fmt::format("{:x}\r\n", piece.size()));
    connection_->send(piece);
    if (http11_) connection_->send("\r\n");
  }

  void end() override {
    if (!connection_) return;
    if (http11_) connection_->send("0\r\n\r\n");
    complete();
  }

  void on_gone(std::function<void()> f) override {
    if (gone_) return f();
    on_gone_ = std::move(f);
  }
  void on_receipt(std::function<void(bool)> f) override { on_receipt_ = std::move(f); }
  void on_tick(std::function<void()> f) override { on_tick_ = std::move(f); }
  void post(std::function<void()> f) override { asio::post(hub_.io, std::move(f)); }
  bool gone() const override { return gone_; }
  size_t backlog() const override { return backlog_; }

  void tick() {
    if (on_tick_ && connection_) on_tick_();
  }
  void set_backlog(size_t n) { backlog_ = n; }
  // The connection is no more.
  void lose() {
    if (!connection_) return;
    gone_ = true;
    backlog_ = 0;
    const auto f = std::move(on_gone_);
    on_tick_ = nullptr;
    connection_.reset();
    if (f) f();
  }

 private:
  std::string head(const HttpReply& r) {
    std::string out = fmt::format("HTTP/1.1 {} {}\r\n", r.status, status_text(r.status));
    if (!r.content_type.empty()) out += fmt::format("Content-Type: {}\r\n", r.content_type);
    for (const auto& [name, value] : r.headers) out += fmt::format("{}: {}\r\n", name, value);
    if (!keep_alive_ || hub_.stopping) out += "Connection: close\r\n";
    return out;
  }

  void complete() {
    const auto connection = std::move(connection_);
    connection_.reset();
    on_gone_ = nullptr;
    on_tick_ = nullptr;
    backlog_ = 0;
    connection->receipt_ = std::move(on_receipt_);
    connection->reply_complete(keep_alive_);
  }

  Hub& hub_;
  std::shared_ptr<Connection> connection_;
  HttpRequest request_;
  const bool http11_;
  bool keep_alive_;
  std::atomic<bool> gone_{false};
  std::atomic<size_t> backlog_{0};
  std::function<void()> on_gone_, on_tick_;
  std::function<void(bool)> on_receipt_;
};

Connection::Connection(Hub& hub, Socket socket, bool is_unix)
    : hub_(hub), socket_(std::move(socket)), is_unix_(is_unix) {}

void Connection::read_header() {
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(hub_.options.max_header_bytes));
  parser_->body_limit(hub_.options.max_body_bytes);
  read_since_ = Clock::now();
  http::async_read_header(socket_, input_, *parser_,
                          [self = shared_from_this()](Error error, size_t) {
                            if (error) return self->on_body_error(error);
                            self->settle(true);
                            self->read_body();
                          });
}

void Connection::read_body() {
  const auto& message = parser_->get();
  if (message.version() < 10 || message.version() > 11)
    return refuse(505, "expected HTTP/1.0 or HTTP/1.1");
  const auto expect = message[http::field::expect];
  if (!expect.empty() && !parser_->is_done()) send("HTTP/1.1 100 Continue\r\n\r\n");
  http::async_read(socket_, input_, *parser_, [self = shared_from_this()](Error error, size_t) {
    if (error) return self->on_body_error(error);
    self->dispatch();
  });
}

void Connection::on_body_error(Error error) {
  if (error == http::error::end_of_stream) settle(true);
  if (error == http::error::body_limit)
    return refuse(
        413, fmt::format("the request body is larger than {} bytes", hub_.options.max_body_bytes));
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return refuse(431, fmt::format("the request header is larger than {} bytes",
                                   hub_.options.max_header_bytes));
  // What is no HTTP error is the socket's: the client has left.
  if (error.category() != make_error_code(http::error::end_of_stream).category() ||
      error == http::error::end_of_stream || error == http::error::partial_message)
    return close();
  refuse(400, fmt::format("no valid HTTP request: {}", error.message()));
}

// Answers outside of any Reply, then closes.
void Connection::refuse(int status, std::string_view message) {
  std::string path(parser_->get().target());
  path.resize(std::min(path.find('?'), path.size()));
  const HttpReply r = hub_.refuse(path, status, message);
  send(
      fmt::format("HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n"
                  "Connection: close\r\n\r\n{}",
                  status, status_text(status), r.content_type, r.body.size(), r.body));
  reply_complete(false);
}

void Connection::dispatch() {
  auto& message = parser_->get();
  HttpRequest request;
  request.method = std::string(message.method_string());
  request.path = std::string(message.target());
  request.path.resize(std::min(request.path.find('?'), request.path.size()));
  request.from_unix_socket = is_unix_;
  for (const auto& field : message) {
    std::string name(field.name_string());
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    request.headers.emplace_back(std::move(name), std::string(field.value()));
  }
  request.body = std::move(message.body());
  reply_ = std::make_shared<Reply>(shared_from_this(), std::move(request), message.version() == 11,
                                   message.keep_alive());
  complete_ = false;
  watch_for_close();
  hub_.handler(reply_);
}

// Readable without bytes means that the client has closed. Bytes are the next request, come early.
void Connection::watch_for_close() {
  socket_.async_wait(Socket::wait_read, [self = shared_from_this(), reply = reply_](Error error) {
    if (error || !self->is_open() || self->reply_ != reply || !reply) return;
    char byte;
    const ssize_t n = ::recv(self->socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0) return;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
      return self->watch_for_close();
    self->close();
  });
}

void Connection::send(std::string_view bytes) {
  if (!is_open()) return;
  if (writing_.empty()) wrote_at_ = Clock::now();
  out_ += bytes;
  if (reply_) reply_->set_backlog(out_.size() + writing_.size() - written_);
  if (!writing_.empty()) return;
  // One write for all pieces of this turn of the loop.
  writing_.swap(out_);
  written_ = 0;
  asio::post(hub_.io, [self = shared_from_this()] {
    self->writing_ += self->out_;
    self->out_.clear();
    self->write_some();
  });
}

void Connection::write_some() {
  if (!is_open()) return;
  socket_.async_write_some(
      asio::buffer(writing_.data() + written_, writing_.size() - written_),
      [self = shared_from_this()](Error error, size_t n) {
        if (error) return self->close();
        self->written_ += n;
        self->wrote_at_ = Clock::now();
        if (self->written_ == self->writing_.size()) {
          self->writing_.clear();
          self->writing_.swap(self->out_);
          self->written_ = 0;
        }
        if (self->reply_)
          self->reply_->set_backlog(self->out_.size() + self->writing_.size() - self->written_);
        if (!self->writing_.empty()) return self->write_some();
        if (self->complete_) self->after_write();
      });
}

void Connection::reply_complete(bool keep_alive) {
  complete_ = true;
  keep_alive_ = keep_alive && !hub_.stopping;
  reply_.reset();
}

void Connection::after_write() {
  complete_ = false;
  if (!keep_alive_) return linger();
  Error ignored;
  socket_.cancel(ignored);  // the wait for a close
  asio::post(hub_.io, [self = shared_from_this()] {
    if (self->is_open()) self->read_header();
  });
}

// Closing with unread input would reset the connection and lose the reply, so read it away.
void Connection::linger() {
  Error ignored;
  if (!lingering_) socket_.shutdown(Socket::shutdown_send, ignored);
  if (!lingering_) read_since_ = Clock::now();
  lingering_ = true;
  socket_.async_read_some(asio::buffer(sink_), [self = shared_from_this()](Error error, size_t) {
    if (error == asio::error::eof) self->settle(true);
    if (error) return self->close();
    self->linger();
  });
}

void Connection::settle(bool taken) {
  if (const auto f = std::exchange(receipt_, nullptr)) f(taken);
}

void Connection::tick(Clock::time_point now) {
  const auto keep = shared_from_this();
  const auto older = [&](Clock::time_point t, int s) { return now - t > std::chrono::seconds(s); };
  if (lingering_) {
    if (!older(read_since_, 2)) return;
    settle(true);
    return close();
  }
  if (!writing_.empty() && older(wrote_at_, hub_.options.write_stall_s)) return close();
  if (reply_) return reply_->tick();
  if (!writing_.empty() || !older(read_since_, hub_.options.read_timeout_s)) return;
  settle(true);
  close();
}

void Connection::close() {
  if (!is_open()) return;
  Error ignored;
  socket_.close(ignored);
  settle(false);
  if (const auto reply = std::exchange(reply_, nullptr)) reply->lose();
}

}  // namespace narwhal::serve
