// Response formats and tool calls ready to constrain sampling, kept so that a schema is compiled,
// and its masks computed, once.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "base/json.h"
#include "grammar/constraint.h"
#include "narwhal/status.h"
#include "serve/turn.h"
#include "text/tokenizer.h"

namespace narwhal::serve {

// Thread-safe.
class Formats {
 public:
  explicit Formats(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // At the beginning of a document; copy it for each turn. kUsage naming the keyword that cannot be
  // enforced.
  Result<std::shared_ptr<const Constraint>> compile(const Json& schema);

  // Sets the request's call_grammar and enforces_calls from its tools. A strict tool whose schema
  // cannot be enforced is kBadInput: "tools[2].parameters: ..." naming the keyword.
  Status add_call_grammar(TurnRequest& request, int32_t dsml);

 private:
  using Made = std::shared_ptr<const Constraint>;
  using Compile = std::function<Result<std::shared_ptr<const Grammar>>()>;
  Result<Made> find_or_make(std::string key, const Compile& compile);

  const text::Tokenizer& tokenizer_;
  std::mutex mutex_;
  std::shared_ptr<const TokenTrie> trie_;         // made when first needed
  std::list<std::pair<std::string, Made>> kept_;  // newest first
};

}  // namespace narwhal::serve
