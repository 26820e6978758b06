// Response formats ready to constrain sampling, kept so that a schema is compiled, and its masks
// computed, once.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "base/json.h"
#include "grammar/constraint.h"
#include "narwhal/status.h"
#include "text/tokenizer.h"

namespace narwhal::serve {

// Thread-safe.
class Formats {
 public:
  explicit Formats(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // At the beginning of a document; copy it for each turn. kUsage naming the keyword that cannot be
  // enforced.
  Result<std::shared_ptr<const Constraint>> compile(const Json& schema);

 private:
  const text::Tokenizer& tokenizer_;
  std::mutex mutex_;
  std::shared_ptr<const TokenTrie> trie_;  // made when first needed
  std::list<std::pair<std::string, std::shared_ptr<const Constraint>>> kept_;  // newest first
};

}  // namespace narwhal::serve
