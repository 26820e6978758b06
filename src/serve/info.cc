#include "serve/info.h"

#include <fmt/format.h>

#include "serve/api/fields.h"
#include "text/detokenizer.h"

namespace narwhal::serve {

std::string model_json(const ApiContext& c) {
  const std::string id = Json::of(c.model).dump();
  return fmt::format(
      R"({{"id": {0}, "object": "model", "created": 1767225600, "owned_by": "local", "name": {0}, "display_name": {0}, "type": "model", "created_at": "2026-01-01T00:00:00Z", "context_length": {1}, "max_model_len": {1}, "top_provider": {{"context_length": {1}, "max_completion_tokens": {1}, "is_moderated": false}}, "supported_parameters": ["tools", "tool_choice", "max_tokens", "temperature", "top_p", "top_k", "min_p", "stop", "seed", "stream", "reasoning_effort", "logprobs", "logit_bias", "presence_penalty", "frequency_penalty"]}})",
      id, c.n_ctx);
}

std::string models_json(const ApiContext& c) {
  const std::string id = Json::of(c.model).dump();
  return fmt::format(
      R"({{"object": "list", "data": [{}], "first_id": {}, "last_id": {}, "has_more": false}})",
      model_json(c), id, id);
}

std::string props_json(const ApiContext& c, const ModelInfo& model, int n_slots) {
  Json params = Json::object();
  params.set("temperature", Json::of(double(c.sampling.temperature)));
  params.set("top_k", Json::of(int64_t{c.sampling.top_k}));
  params.set("top_p", Json::of(double(c.sampling.top_p)));
  params.set("min_p", Json::of(double(c.sampling.min_p)));
  params.set("n_predict", Json::of(c.default_max_tokens > 0 ? c.default_max_tokens : int64_t{-1}));
  Json settings = Json::object();
  settings.set("n_ctx", Json::of(c.n_ctx));
  settings.set("params", std::move(params));
  Json j = Json::object();
  j.set("default_generation_settings", std::move(settings));
  j.set("total_slots", Json::of(int64_t{n_slots}));
  j.set("model_path", Json::of(model.path));
  j.set("model_alias", Json::of(c.model));
  j.set("prompt_profile", Json::of(model.prompt_profile));
  j.set("n_vocab", Json::of(c.n_vocab));
  Json modalities = Json::object();
  modalities.set("vision", Json::of(false));
  modalities.set("audio", Json::of(false));
  j.set("modalities", std::move(modalities));
  j.set("build_info", Json::of("narwhal"));
  return j.dump();
}

std::string slots_json(const ApiContext& c, const std::vector<SlotView>& slots) {
  Json out = Json::array();
  for (size_t i = 0; i < slots.size(); i++) {
    Json j = Json::object();
    j.set("id", Json::of(static_cast<int64_t>(i)));
    j.set("n_ctx", Json::of(c.n_ctx));
    j.set("is_processing", Json::of(slots[i].busy));
    j.set("is_prefilling", Json::of(slots[i].prefilling));
    j.set("n_tokens", Json::of(slots[i].n_tokens));
    j.set("n_prompt", Json::of(slots[i].n_prompt));
    j.set("n_decoded", Json::of(slots[i].n_written));
    out.push(std::move(j));
  }
  return out.dump();
}

Result<std::string> tokenize_json(const Json& body, const text::Tokenizer& tokenizer) {
  Fields in(body);
  const std::string text = in.text("content");
  const bool special = in.boolean("parse_special", true);
  const bool add_bos = in.boolean("add_special", false);
  const bool pieces = in.boolean("with_pieces", false);
  NW_TRY(in.status());
  std::vector<int32_t> ids = special ? tokenizer.encode_special(text) : tokenizer.encode(text);
  if (add_bos) ids.insert(ids.begin(), tokenizer.bos());
  Json tokens = Json::array();
  for (const int32_t id : ids) {
    if (!pieces) {
      tokens.push(Json::of(int64_t{id}));
      continue;
    }
    Json piece = Json::object();
    piece.set("id", Json::of(int64_t{id}));
    piece.set("piece", Json::of(text::to_utf8(tokenizer.bytes(id))));
    tokens.push(std::move(piece));
  }
  Json out = Json::object();
  out.set("tokens", std::move(tokens));
  return out.dump();
}

Result<std::string> detokenize_json(const Json& body, const text::Tokenizer& tokenizer) {
  Fields in(body);
  std::vector<int32_t> ids;
  for (const Json& id : in.array("tokens").items) {
    const int64_t v = id.as_int(-1);
    if (!id.is_number() || v < 0 || v >= tokenizer.vocab_size())
      return bad_input(fmt::format("tokens: found {}, expected ids below {}", id.dump(),
                                   tokenizer.vocab_size()));
    ids.push_back(static_cast<int32_t>(v));
  }
  NW_TRY(in.status());
  Json out = Json::object();
  out.set("content", Json::of(text::to_utf8(tokenizer.decode(ids))));
  return out.dump();
}

}  // namespace narwhal::serve
