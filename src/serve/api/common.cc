#include "serve/api/common.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "base/parse_index.h"

namespace narwhal::serve {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

void read_logit_bias(Fields& in, const ApiContext& context, TurnRequest& request) {
  for (const auto& [name, value] : in.object("logit_bias").members) {
    const auto id = parse_index(name, context.n_vocab);
    if (!id) return in.fault("logit_bias", fmt::format("{} is no token id", json_quote(name)));
    const double bias = value.as_double(1e9);
    if (!value.is_number() || bias < -100 || bias > 100)
      return in.fault(
          "logit_bias",
          fmt::format("found {} for {}, expected a number from -100 to 100", value.dump(), name));
    request.sampling.logit_bias.emplace_back(static_cast<int32_t>(*id), static_cast<float>(bias));
  }
}

struct EffortName {
  std::string_view name;
  bool thinking;
  text::Effort effort;
};
constexpr EffortName kEfforts[] = {
    {"none", false, text::Effort::kNone},  {"disabled", false, text::Effort::kNone},
    {"minimal", true, text::Effort::kLow}, {"low", true, text::Effort::kLow},
    {"medium", true, text::Effort::kHigh}, {"high", true, text::Effort::kHigh},
    {"xhigh", true, text::Effort::kHigh},  {"max", true, text::Effort::kMax},
    {"ultra", true, text::Effort::kMax},
};

// The effort a client names, wherever its API has it.
std::optional<EffortName> find_effort(Fields& in) {
  const std::pair<const char*, const Json*> places[] = {
      {"reasoning_effort", &in["reasoning_effort"]},
      {"thinking", &in["thinking"]["reasoning_effort"]},
      {"reasoning", &in["reasoning"]["effort"]},
      {"output_config", &in["output_config"]["effort"]}};
  for (const auto& [name, value] : places) {
    if (value->is_null()) continue;
    for (const EffortName& e : kEfforts) {
      if (value->is_string() && e.name == value->text) return e;
    }
    in.fault(name, fmt::format("effort {}, expected none, minimal, low, medium, high, xhigh or max",
                               value->dump()));
    return std::nullopt;
  }
  return std::nullopt;
}

std::optional<bool> find_switch(Fields& in) {
  const Json& thinking = in["thinking"];
  if (thinking.is_object()) {
    const std::string& type = thinking["type"].text;
    if (type == "enabled" || type == "adaptive") return true;
    if (type == "disabled") return false;
    in.fault("thinking.type", fmt::format("found {}, expected enabled, adaptive or disabled",
                                          thinking["type"].dump()));
  } else if (!thinking.is_null() && !thinking.is_bool()) {
    in.fault("thinking", fmt::format("found {}, expected an object", thinking.dump()));
  }
  const Json& kwargs = in["chat_template_kwargs"];
  for (const Json* j : {&thinking, &in["think"], &in["enable_thinking"], &kwargs["thinking"],
                        &kwargs["enable_thinking"], &in["reasoning"]["enabled"]}) {
    if (j->is_bool()) return j->as_bool();
  }
  return std::nullopt;
}

}  // namespace

bool is_model_alias(std::string_view model, std::string_view alias) {
  const size_t slash = model.rfind('/');
  if (slash != model.npos) model.remove_prefix(slash + 1);
  return model == alias;
}

void read_sampling(Fields& in, const ApiContext& context, TurnRequest& request) {
  SamplingOptions& s = request.sampling;
  s = context.sampling;
  s.temperature = static_cast<float>(in.number("temperature", double(s.temperature), 0, 100));
  s.top_p = static_cast<float>(in.number("top_p", double(s.top_p), 0, 1));
  s.top_k = static_cast<int>(std::max<int64_t>(0, in.integer("top_k", s.top_k, -1, 1 << 30)));
  s.min_p = static_cast<float>(in.number("min_p", double(s.min_p), 0, 1));
  s.presence_penalty =
      static_cast<float>(in.number("presence_penalty", double(s.presence_penalty), -100, 100));
  s.frequency_penalty =
      static_cast<float>(in.number("frequency_penalty", double(s.frequency_penalty), -100, 100));
  if (in.has("seed")) {
    const int64_t seed = in.integer("seed", 0, std::numeric_limits<int64_t>::min(), kMost);
    // The sampler takes 0 for "choose one".
    s.seed = seed == 0 ? 0x9E3779B97F4A7C15u : static_cast<uint64_t>(seed);
  }
  read_logit_bias(in, context, request);
}

void read_stop(Fields& in, std::string_view name, TurnRequest& request) {
  const Json& stop = in[name];
  if (stop.is_null()) return;
  const auto add = [&](const Json& s) {
    if (!s.is_string() || s.text.empty() || s.text.size() > 256)
      return in.fault(name, fmt::format("found {}, expected strings of 1 to 256 bytes", s.dump()));
    request.stop.push_back(s.text);
  };
  if (stop.is_array() && stop.items.size() <= 16)
    std::for_each(stop.items.begin(), stop.items.end(), add);
  else if (stop.is_array())
    in.fault(name, fmt::format("{} stop strings, at most 16", stop.items.size()));
  else
    add(stop);
}

void read_limit(Fields& in, std::string_view name, const ApiContext& context, bool zero_is_prefill,
                TurnRequest& request) {
  request.max_tokens = context.default_max_tokens;
  if (!in.has(name)) return;
  request.max_tokens = in.integer(name, 0, zero_is_prefill ? 0 : 1, kMost);
  request.prefill_only = request.max_tokens == 0;
}

void read_thinking(Fields& in, bool fallback, const ApiContext& context, TurnRequest& request) {
  request.effort = context.effort;
  const auto effort = find_effort(in);
  if (effort && effort->thinking) request.effort = effort->effort;
  const std::string& model = in["model"].text;
  if (const auto on = find_switch(in))
    request.thinking = *on;
  else if (effort)
    request.thinking = effort->thinking;
  else if (is_model_alias(model, "deepseek-chat") || is_model_alias(model, "deepseek-reasoner"))
    request.thinking = is_model_alias(model, "deepseek-reasoner");
  else
    request.thinking = fallback;
  request.thinking_budget = in.integer("thinking_budget", -1, 0, kMost);
  const Json& budget = in["thinking"]["budget_tokens"];
  if (!budget.is_null()) {
    if (!budget.is_number() || budget.as_int(-1) < 0)
      in.fault("thinking.budget_tokens",
               fmt::format("found {}, expected a whole number", budget.dump()));
    request.thinking_budget = budget.as_int(-1);
  }
}

void read_format(Fields& in, std::string_view name, const Json& format, TurnRequest& request) {
  if (format.is_null()) return;
  const std::string& type = format["type"].text;
  if (type == "text") return;
  Json schema;
  if (type == "json_object") {
    schema.set("type", Json::of("object"));
  } else if (type == "json_schema") {
    const Json& inner =
        format["json_schema"].is_object() ? format["json_schema"]["schema"] : format["schema"];
    if (!inner.is_object()) return in.fault(name, "json_schema without a schema object");
    schema = inner;
  } else {
    return in.fault(name, fmt::format("type {}, expected text, json_object or json_schema",
                                      format["type"].dump()));
  }
  request.response_format = std::move(schema);
}

Result<std::string> read_content(const Json& content, std::string_view path,
                                 std::string_view between, bool tolerant) {
  if (content.is_null()) return std::string();
  if (content.is_string()) return content.text;
  if (!content.is_array())
    return bad_input(fmt::format("{}: expected a string or an array of parts", path));
  std::string out;
  for (size_t i = 0; i < content.items.size(); i++) {
    const Json& part = content.items[i];
    const std::string& type = part["type"].text;
    if (i > 0) out += between;
    if (part.is_string()) {
      out += part.text;
    } else if (type == "text" || type == "input_text" || type == "output_text" ||
               type == "summary_text" || type == "reasoning_text") {
      out += part["text"].text;
    } else if (type == "refusal") {
      out += part["refusal"].text;
    } else if (tolerant) {
      out += fmt::format("[Unsupported {}]", type);
    } else {
      return bad_input(
          fmt::format("{}[{}].type: {} is not supported; the model reads text only, no images, "
                      "audio or files",
                      path, i, part["type"].dump()));
    }
  }
  return out;
}

Status add_tool(Json function, const Json& strict, std::string_view path, TurnRequest& request) {
  const Json& name = function["name"];
  bool good = name.is_string() && !name.text.empty() && name.text.size() <= 128;
  for (char c : name.text)
    good = good && c != '"' && c != '<' && c != '>' && static_cast<unsigned char>(c) >= 0x20;
  if (!good)
    return bad_input(fmt::format(
        "{}: tool name {}, expected 1 to 128 bytes without quotes, < and >", path, name.dump()));
  if (!strict.is_null() && !strict.is_bool())
    return bad_input(
        fmt::format("{}.strict: found {}, expected true or false", path, strict.dump()));
  if (strict.as_bool()) request.strict_tools.push_back(name.text);
  std::erase_if(function.members, [](const auto& m) {
    return m.first == "cache_control" || m.first == "defer_loading" || m.first == "input_examples";
  });
  request.tools.push_back(std::move(function));
  return ok_status();
}

Status choose_tools(ToolChoice choice, std::vector<std::string> names, TurnRequest& request) {
  for (const std::string& name : names) {
    if (std::none_of(request.tools.begin(), request.tools.end(),
                     [&](const Json& t) { return t["name"].text == name; }))
      return bad_input(
          fmt::format("tool_choice: {} is not among the tools of the request", json_quote(name)));
  }
  if (choice == ToolChoice::kRequired && request.tools.empty())
    return bad_input("tool_choice: a call is required, but the request has no tools");
  request.tool_choice = choice;
  request.allowed_tools = std::move(names);
  return ok_status();
}

}  // namespace narwhal::serve
