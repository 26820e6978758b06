// Tools of the Responses API: kinds that the model does not know are shown to it as functions, and
// its calls are turned back into items of the kind.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "serve/api/common.h"

namespace narwhal::serve {

struct ResponseTool {
  enum Kind { kFunction, kCustom, kLocalShell, kToolSearch };
  Kind kind = kFunction;
  std::string name_space, name;  // of a function inside a namespace
};

// By the name that the model sees.
class ResponseTools {
 public:
  // Adds the tools and the choice to the request. Tools that their provider would run are left out.
  Status read(Fields& in, TurnRequest& request);
  const ResponseTool& find(const std::string& name) const;

  static std::string flat_name(std::string_view name_space, std::string_view name);

 private:
  Status add(const Json& tool, const std::string& path, TurnRequest& request);
  Status read_choice(const Json& choice, TurnRequest& request);
  std::map<std::string, ResponseTool> tools_;
};

}  // namespace narwhal::serve
