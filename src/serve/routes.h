// Which handler answers which request.
#pragma once

#include <string>
#include <string_view>

namespace narwhal::serve {

enum class Route {
  kUnknown,
  kWrongMethod,
  kRoot,
  kHealth,
  kMetrics,
  kModels,
  kModel,  // rest: the id
  kChat,
  kCompletions,
  kMessages,
  kResponses,
  kCountMessages,
  kCountChat,
  kCountResponses,
  kTokenize,
  kDetokenize,
  kApplyTemplate,
  kProps,
  kSlots,
  kNotGenerative,  // embeddings and the like
};

struct Match {
  Route route = Route::kUnknown;
  std::string rest = {};
};

// Paths are known with and without /v1, /anthropic and /beta in front. HEAD counts as GET.
Match find_route(std::string_view method, std::string_view path);

// Whether errors on this path have Anthropic's form.
bool is_anthropic(std::string_view path);

}  // namespace narwhal::serve
