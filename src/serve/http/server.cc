#include "serve/http/server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <vector>

#include "serve/http/connection.h"

namespace narwhal::serve {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Local = asio::local::stream_protocol;
using Error = boost::system::error_code;

constexpr auto kTick = std::chrono::milliseconds(200);

class Server : public HttpServer {
 public:
  Server(HttpOptions options, Handler handler, Refuse refuse)
      : tcp_(hub_.io), local_(hub_.io), timer_(hub_.io) {
    hub_.options = std::move(options);
    hub_.handler = std::move(handler);
    hub_.refuse = std::move(refuse);
  }

  ~Server() override {
    for (const auto& weak : connections_)
      if (const auto c = weak.lock()) c->close();
    if (!hub_.options.unix_path.empty() && local_.is_open())
      ::unlink(hub_.options.unix_path.c_str());
  }

  Status listen() {
    NW_TRY(hub_.options.unix_path.empty() ? listen_tcp() : listen_unix());
    tick();
    return ok_status();
  }

  int port() const override { return port_; }
  int n_connections() const override { return n_connections_; }
  void run() override { hub_.io.run(); }
  void post(std::function<void()> f) override { asio::post(hub_.io, std::move(f)); }

  void stop(int grace_ms) override {
    post([this, grace_ms] {
      hub_.stopping = true;
      Error ignored;
      tcp_.close(ignored);
      local_.close(ignored);
      if (!hub_.options.unix_path.empty()) ::unlink(hub_.options.unix_path.c_str());
      give_up_ = Clock::now() + std::chrono::milliseconds(grace_ms);
    });
  }

 private:
  Status listen_tcp() {
    const HttpOptions& o = hub_.options;
    Error error;
    tcp::resolver resolver(hub_.io);
    const auto found =
        resolver.resolve(o.host, fmt::to_string(o.port), tcp::resolver::passive, error);
    if (error || found.empty())
      return failed(fmt::format("--host {}: {}", o.host, error.message()));
    const tcp::endpoint at = found.begin()->endpoint();
    tcp_.open(at.protocol(), error);
    if (!error) tcp_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) tcp_.bind(at, error);
    if (!error) tcp_.listen(asio::socket_base::max_listen_connections, error);
    if (error)
      return failed(fmt::format("cannot listen on {} port {}: {}; choose another with --port",
                                o.host, o.port, error.message()));
    port_ = tcp_.local_endpoint(error).port();
    accept_tcp();
    return ok_status();
  }

  Status listen_unix() {
    const std::string& path = hub_.options.unix_path;
    struct stat s;
    if (::lstat(path.c_str(), &s) == 0) {
      // A socket left by a server that died may go; one that answers, or any other file, may not.
      Error error;
      Local::socket probe(hub_.io);
      if (S_ISSOCK(s.st_mode)) probe.connect(Local::endpoint(path), error);
      if (!S_ISSOCK(s.st_mode) || !error)
        return failed(fmt::format("{}: the file exists{}; choose another path", path,
                                  S_ISSOCK(s.st_mode) ? " and a server listens on it" : ""));
      ::unlink(path.c_str());
    }
    if (path.size() > 100)
      return usage(fmt::format("{}: a socket path has at most 100 bytes", path));
    Error error;
    local_.open(Local(), error);
    const mode_t before = ::umask(0177);  // for this user only
    if (!error) local_.bind(Local::endpoint(path), error);
    ::umask(before);
    if (!error) local_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return failed(fmt::format("cannot listen on {}: {}", path, error.message()));
    accept_unix();
    return ok_status();
  }

  void accept_tcp() {
    tcp_.async_accept([this](Error error, tcp::socket socket) {
      if (!tcp_.is_open()) return;
      if (!error) {
        Error ignored;
        socket.set_option(tcp::no_delay(true), ignored);
        add(Socket(std::move(socket)), false);
      }
      again(error, [this] { accept_tcp(); });
    });
  }

  void accept_unix() {
    local_.async_accept([this](Error error, Local::socket socket) {
      if (!local_.is_open()) return;
      if (!error) add(Socket(std::move(socket)), true);
      again(error, [this] { accept_unix(); });
    });
  }

  // Out of descriptors, say: another attempt after a while.
  void again(Error error, const std::function<void()>& accept) {
    if (!error) return accept();
    const auto timer = std::make_shared<asio::steady_timer>(hub_.io, kTick);
    timer->async_wait([timer, accept](Error) { accept(); });
  }

  void add(Socket socket, bool is_unix) {
    if (std::ssize(connections_) >= hub_.options.max_connections) prune();
    if (std::ssize(connections_) >= hub_.options.max_connections) return;  // closes it
    const auto c = std::make_shared<Connection>(hub_, std::move(socket), is_unix);
    connections_.push_back(c);
    n_connections_ = static_cast<int>(connections_.size());
    c->start();
  }

  void prune() {
    std::erase_if(connections_, [](const auto& weak) {
      const auto c = weak.lock();
      return !c || !c->is_open();
    });
    n_connections_ = static_cast<int>(connections_.size());
  }

  void tick() {
    timer_.expires_after(kTick);
    timer_.async_wait([this](Error) {
      const auto now = Clock::now();
      const auto all = connections_;
      bool busy = false;
      for (const auto& weak : all) {
        const auto c = weak.lock();
        if (!c || !c->is_open()) continue;
        c->tick(now);
        busy = busy || !c->is_idle();
      }
      prune();
      if (hub_.stopping && (!busy || now > give_up_)) return hub_.io.stop();
      tick();
    });
  }

  Hub hub_;
  tcp::acceptor tcp_;
  Local::acceptor local_;
  asio::steady_timer timer_;
  std::vector<std::weak_ptr<Connection>> connections_;
  std::atomic<int> n_connections_{0};
  int port_ = 0;
  Clock::time_point give_up_;
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::open(HttpOptions options, Handler handler,
                                                     Refuse refuse) {
  auto server = std::make_unique<Server>(std::move(options), std::move(handler), std::move(refuse));
  NW_TRY(server->listen());
  return std::unique_ptr<HttpServer>(std::move(server));
}

std::string_view status_text(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 413:
      return "Payload Too Large";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

}  // namespace narwhal::serve
