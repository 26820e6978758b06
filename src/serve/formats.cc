#include "serve/formats.h"

#include <string_view>
#include <vector>

#include "grammar/json_schema.h"

namespace narwhal::serve {
namespace {

constexpr size_t kMaxKept = 64;

std::shared_ptr<const TokenTrie> make_trie(const text::Tokenizer& tokenizer) {
  std::vector<std::string_view> bytes;
  for (int32_t id = 0; id < tokenizer.vocab_size(); id++)
    bytes.push_back(tokenizer.is_control(id) ? std::string_view() : tokenizer.bytes(id));
  const int32_t end = tokenizer.eos();
  return TokenTrie::create(bytes, {&end, 1});
}

}  // namespace

Result<std::shared_ptr<const Constraint>> Formats::compile(const Json& schema) {
  const std::string text = schema.dump();
  const std::lock_guard lock(mutex_);
  for (auto at = kept_.begin(); at != kept_.end(); ++at) {
    if (at->first != text) continue;
    kept_.splice(kept_.begin(), kept_, at);
    return kept_.front().second;
  }
  NW_ASSIGN(auto grammar, compile_json_schema(schema, {}));
  if (!trie_) trie_ = make_trie(tokenizer_);
  auto made = std::make_shared<const Constraint>(Constraint::create(std::move(grammar), trie_));
  kept_.emplace_front(text, made);
  if (kept_.size() > kMaxKept) kept_.pop_back();
  return made;
}

}  // namespace narwhal::serve
