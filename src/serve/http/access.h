// Who may use the server: keys, and protection against pages of other sites that a browser on this
// machine may have open.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "serve/http/message.h"

namespace narwhal::serve {

struct AccessRules {
  std::vector<std::string> keys;   // none: everyone may
  bool cors = false;               // pages of any site may
  bool loopback = true;            // the server listens on a loopback address only
  std::vector<std::string> hosts;  // further names of this server
};

// 0 when allowed, else 401 or 403; `why` says which rule refused.
int check_access(const AccessRules& rules, const HttpRequest& request, bool needs_key,
                 std::string& why);

// In time that does not depend on where the two differ.
bool equal_secrets(std::string_view a, std::string_view b);

// "localhost:8000" -> "localhost", "[::1]:80" -> "::1".
std::string_view host_name(std::string_view host);

// 127.0.0.0/8, ::1 and localhost.
bool is_loopback(std::string_view host);

}  // namespace narwhal::serve
