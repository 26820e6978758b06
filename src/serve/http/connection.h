// One client connection: reads requests one after another and writes their replies. IO thread only.
#pragma once

#include <atomic>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "serve/http/server.h"

namespace narwhal::serve {

using Socket = boost::asio::generic::stream_protocol::socket;
using Clock = std::chrono::steady_clock;

class Reply;

// What connections share.
struct Hub {
  boost::asio::io_context io{1};
  HttpOptions options;
  Handler handler;
  HttpServer::Refuse refuse;
  bool stopping = false;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Hub& hub, Socket socket, bool is_unix);

  void start() { read_header(); }
  void tick(Clock::time_point now);
  void close();
  bool is_open() const { return socket_.is_open(); }
  bool is_idle() const { return !reply_; }

 private:
  friend class Reply;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  using Error = boost::system::error_code;

  void read_header();
  void read_body();
  void on_body_error(Error error);
  void dispatch();
  void refuse(int status, std::string_view message);
  void watch_for_close();
  void send(std::string_view bytes);
  void write_some();
  void reply_complete(bool keep_alive);
  void after_write();
  void linger();
  void settle(bool taken);

  Hub& hub_;
  Socket socket_;
  const bool is_unix_;
  boost::beast::flat_buffer input_;
  std::optional<Parser> parser_;
  std::shared_ptr<Reply> reply_;
  std::string out_, writing_;
  size_t written_ = 0;
  bool complete_ = false, keep_alive_ = true, lingering_ = false;
  Clock::time_point read_since_, wrote_at_;
  std::function<void(bool)> receipt_;  // of the last reply, until it is known
  char sink_[4096];
};

}  // namespace narwhal::serve
