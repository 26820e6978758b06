#include "serve/routes.h"

#include <algorithm>

namespace narwhal::serve {
namespace {

struct Entry {
  std::string_view path, method;
  Route route;
};

constexpr Entry kEntries[] = {
    {"/", "GET", Route::kRoot},
    {"/health", "GET", Route::kHealth},
    {"/metrics", "GET", Route::kMetrics},
    {"/models", "GET", Route::kModels},
    {"/chat/completions", "POST", Route::kChat},
    {"/completions", "POST", Route::kCompletions},
    {"/messages", "POST", Route::kMessages},
    {"/responses", "POST", Route::kResponses},
    {"/messages/count_tokens", "POST", Route::kCountMessages},
    {"/chat/completions/input_tokens", "POST", Route::kCountChat},
    {"/responses/input_tokens", "POST", Route::kCountResponses},
    {"/tokenize", "POST", Route::kTokenize},
    {"/detokenize", "POST", Route::kDetokenize},
    {"/apply-template", "POST", Route::kApplyTemplate},
    {"/props", "GET", Route::kProps},
    {"/slots", "GET", Route::kSlots},
    {"/embeddings", "POST", Route::kNotGenerative},
    {"/rerank", "POST", Route::kNotGenerative},
};

std::string_view without_prefixes(std::string_view path) {
  for (std::string_view prefix : {"/anthropic", "/beta", "/v1"}) {
    if (path.starts_with(prefix) && path.size() > prefix.size() && path[prefix.size()] == '/')
      path.remove_prefix(prefix.size());
  }
  if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return path;
}

}  // namespace

Match find_route(std::string_view method, std::string_view path) {
  path = without_prefixes(path);
  if (method == "HEAD") method = "GET";
  for (const Entry& e : kEntries) {
    if (e.path == path) return {e.method == method ? e.route : Route::kWrongMethod};
  }
  constexpr std::string_view kModelPrefix = "/models/";
  if (path.starts_with(kModelPrefix))
    return {method == "GET" ? Route::kModel : Route::kWrongMethod,
            std::string(path.substr(kModelPrefix.size()))};
  return {};
}

bool is_anthropic(std::string_view path) {
  path = without_prefixes(path);
  return path == "/messages" || path.starts_with("/messages/");
}

}  // namespace narwhal::serve
