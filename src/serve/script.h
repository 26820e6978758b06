// The scripted decoder, for tests of clients: what the model is to write stands in a file. Its
// tokens are forced through the model, the parser and the API like sampled ones.
//
//   [{"tool": "bash", "after": "user", "write": "\n\n<｜DSML｜tool_calls>\n..."},
//    {"after": "tool", "write": "Done."}]
//
// The first rule that fits is taken: its tool is declared (without one: any request), and since the
// last turn of the model there was a tool's result ("tool") or there was none ("user"). A request
// that no rule fits is sampled.
#pragma once

#include <string>
#include <vector>

#include "narwhal/status.h"
#include "serve/turn.h"

namespace narwhal::serve {

class Script {
 public:
  // kBadInput naming the rule at fault.
  static Result<Script> read(const std::string& path);
  // What to write; empty when no rule fits.
  std::string find(const TurnRequest& request) const;

 private:
  struct Rule {
    std::string tool;
    bool after_tool;
    std::string write;
  };
  std::vector<Rule> rules_;
};

}  // namespace narwhal::serve
