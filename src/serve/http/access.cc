#include "serve/http/access.h"

#include <arpa/inet.h>

#include <algorithm>

namespace narwhal::serve {
namespace {

bool is_address(std::string_view name) {
  const std::string s(name);
  unsigned char bytes[16];
  return inet_pton(AF_INET, s.c_str(), bytes) == 1 || inet_pton(AF_INET6, s.c_str(), bytes) == 1;
}

std::string_view key_of(const HttpRequest& request) {
  const std::string_view authorization = request.header("authorization");
  for (std::string_view scheme : {"Bearer ", "bearer "}) {
    if (authorization.starts_with(scheme)) return authorization.substr(scheme.size());
  }
  return request.header("x-api-key");
}

}  // namespace

bool equal_secrets(std::string_view a, std::string_view b) {
  size_t different = a.size() ^ b.size();
  for (size_t i = 0; i < a.size(); i++)
    different |= static_cast<size_t>(static_cast<unsigned char>(a[i])) ^
                 (b.empty() ? 0x100u : static_cast<unsigned char>(b[i % b.size()]));
  return different == 0;
}

std::string_view host_name(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  if (std::count(host.begin(), host.end(), ':') > 1) return host;
  return host.substr(0, host.find(':'));
}

bool is_loopback(std::string_view host) {
  return host == "localhost" || host == "::1" || (host.starts_with("127.") && is_address(host));
}

int check_access(const AccessRules& rules, const HttpRequest& request, bool needs_key,
                 std::string& why) {
  const std::string_view host = host_name(request.header("host"));
  const auto is_own_name = [&](std::string_view name) {
    return name == "localhost" || is_address(name) ||
           std::find(rules.hosts.begin(), rules.hosts.end(), name) != rules.hosts.end();
  };
  // A name of another site that resolves to this machine (DNS rebinding).
  if (rules.loopback && !request.from_unix_socket && !host.empty() && !is_own_name(host)) {
    why = "the Host header names another machine; use an address or localhost";
    return 403;
  }
  const std::string_view origin = request.header("origin");
  if (!rules.cors && !origin.empty()) {
    const size_t scheme = origin.find("://");
    const bool same = scheme != origin.npos && host_name(origin.substr(scheme + 3)) == host;
    if (!same) {
      why = "requests from pages of other sites are refused; --cors allows them";
      return 403;
    }
  }
  if (!needs_key || rules.keys.empty()) return 0;
  const std::string_view key = key_of(request);
  bool good = false;
  for (const std::string& k : rules.keys) good = equal_secrets(key, k) || good;
  if (good) return 0;
  why = key.empty() ? "an API key is needed: Authorization: Bearer KEY, or x-api-key: KEY"
                    : "the API key is not valid";
  return 401;
}

}  // namespace narwhal::serve
