// Replies that need no computing: models, properties, slots, tokens and text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "narwhal/engine.h"
#include "narwhal/status.h"
#include "serve/api/api.h"
#include "serve/scheduler.h"

namespace narwhal::serve {

std::string models_json(const ApiContext& context);
std::string model_json(const ApiContext& context);
std::string props_json(const ApiContext& context, const ModelInfo& model, int n_slots);
std::string slots_json(const ApiContext& context, const std::vector<SlotView>& slots);

// llama.cpp's shapes: {"content": ...} -> {"tokens": [...]} and back.
Result<std::string> tokenize_json(const Json& body, const text::Tokenizer& tokenizer);
Result<std::string> detokenize_json(const Json& body, const text::Tokenizer& tokenizer);

}  // namespace narwhal::serve
