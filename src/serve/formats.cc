#include "serve/formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "grammar/json_schema.h"
#include "grammar/tool_calls.h"

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

Result<Formats::Made> Formats::find_or_make(std::string key, const Compile& compile) {
  const std::lock_guard lock(mutex_);
  for (auto at = kept_.begin(); at != kept_.end(); ++at) {
    if (at->first != key) continue;
    kept_.splice(kept_.begin(), kept_, at);
    return kept_.front().second;
  }
  NW_ASSIGN(auto grammar, compile());
  if (!trie_) trie_ = make_trie(tokenizer_);
  auto made = std::make_shared<const Constraint>(Constraint::create(std::move(grammar), trie_));
  kept_.emplace_front(std::move(key), made);
  if (kept_.size() > kMaxKept) kept_.pop_back();
  return made;
}

Result<std::shared_ptr<const Constraint>> Formats::compile(const Json& schema) {
  return find_or_make("format " + schema.dump(), [&] { return compile_json_schema(schema, {}); });
}

Status Formats::add_call_grammar(TurnRequest& request, int32_t dsml) {
  if (request.tools.empty() || request.tool_choice == ToolChoice::kNone) return ok_status();
  const auto is_among = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  std::vector<ToolSpec> specs;
  std::vector<size_t> places;
  std::string key = request.parallel_tool_calls ? "calls" : "call";
  for (size_t i = 0; i < request.tools.size(); i++) {
    const Json& tool = request.tools[i];
    const std::string& name = tool["name"].text;
    if (!request.allowed_tools.empty() && !is_among(request.allowed_tools, name)) continue;
    const bool is_strict = is_among(request.strict_tools, name);
    const Json& parameters = tool["parameters"];
    specs.push_back({name, parameters.is_object() ? &parameters : nullptr, is_strict});
    key += fmt::format(" {} {} {}", is_strict, json_quote(name), parameters.dump());
    places.push_back(i);
  }
  auto made = find_or_make(std::move(key), [&] {
    return compile_tool_calls(specs, dsml, {.is_parallel = request.parallel_tool_calls});
  });
  request.enforces_calls = !request.strict_tools.empty() || !request.allowed_tools.empty();
  if (made.ok()) {
    request.call_grammar = *std::move(made);
    return ok_status();
  }
  if (!request.enforces_calls) return ok_status();  // it would only have helped
  for (size_t i = 0; i < specs.size(); i++) {
    const auto alone = compile_tool_calls({&specs[i], 1}, dsml, {});
    if (!alone.ok())
      return bad_input(
          fmt::format("tools[{}].parameters: {}", places[i], alone.status().message()));
  }
  return bad_input(fmt::format("tools: {}", made.status().message()));
}

}  // namespace narwhal::serve
