#include "convert/hf_config.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "base/json.h"

namespace narwhal {
namespace {

// transformers writes null for "not set".
const Json* find_set(const Json& object, std::string_view name) {
  const Json* j = object.find(name);
  return j && !j->is_null() ? j : nullptr;
}

// One place where a value may stand, and how a message names it.
struct Place {
  const Json* value;
  std::string_view label;
};

// Reads members into plain fields and keeps the first fault.
class MemberReader {
 public:
  void integer(const Place& p, int& field) {
    int64_t v = field;
    integer(p, v);
    if (v > INT32_MAX) return fail(fmt::format("{} is {}, which is too large", p.label, v));
    field = static_cast<int>(v);
  }
  void integer(const Place& p, int64_t& field) {
    if (!present(p)) return;
    const int64_t v = p.value->is_number() ? p.value->as_int(-1) : -1;
    if (v < 0)
      return fail(
          fmt::format("{} is {}, expected a whole number from 0", p.label, shown(*p.value)));
    field = v;
  }
  void number(const Place& p, float& field) {
    if (!present(p)) return;
    if (!p.value->is_number())
      return fail(fmt::format("{} is {}, expected a number", p.label, shown(*p.value)));
    field = static_cast<float>(p.value->as_double());
  }
  void fail(std::string message) {
    if (status_.ok()) status_ = bad_input(std::move(message));
  }
  const Status& status() const { return status_; }

  static std::string shown(const Json& j) {
    const std::string text = j.dump();
    return text.size() <= 40 ? text : "a longer value";
  }

 private:
  bool present(const Place& p) {
    if (!p.value)
      fail(fmt::format("{} is missing; take config.json as it came with the weights", p.label));
    return p.value && status_.ok();
  }
  Status status_;
};

Status check_choices(const Json& j) {
  struct Choice {
    const char* name;
    Json expected;
  };
  const Choice choices[] = {
      {"model_type", Json::of("deepseek_v4")},    {"num_key_value_heads", Json::of(int64_t{1})},
      {"scoring_func", Json::of("sqrtsoftplus")}, {"norm_topk_prob", Json::of(true)},
      {"hidden_act", Json::of("silu")},           {"tie_word_embeddings", Json::of(false)}};
  for (const auto& [name, expected] : choices)
    if (const Json* v = find_set(j, name); v && v->dump() != expected.dump())
      return bad_input(
          fmt::format("{} is {}, expected {}; this engine runs DeepSeek V4 Flash and "
                      "models of its architecture only",
                      name, MemberReader::shown(*v), expected.dump()));
  return ok_status();
}

void read_sizes(const Json& j, MemberReader& r, Config& c) {
  const auto at = [&j](const char* name) { return Place{find_set(j, name), name}; };
  r.integer(at("num_hidden_layers"), c.n_layers);
  r.integer(at("hidden_size"), c.d_model);
  r.integer(at("vocab_size"), c.n_vocab);
  r.integer(at("max_position_embeddings"), c.max_ctx);
  r.integer(at("num_attention_heads"), c.n_heads);
  r.integer(at("head_dim"), c.head_dim);
  r.integer(at("q_lora_rank"), c.q_lora);
  r.integer(at("o_lora_rank"), c.o_lora);
  r.integer(at("o_groups"), c.o_groups);
  r.integer(at("sliding_window"), c.window);
  r.integer(at("index_n_heads"), c.n_index_heads);
  r.integer(at("index_head_dim"), c.index_dim);
  r.integer(at("index_topk"), c.index_top_k);
  r.integer(at("n_routed_experts"), c.n_experts);
  r.integer(at("num_experts_per_tok"), c.n_experts_used);
  if (find_set(j, "n_shared_experts")) r.integer(at("n_shared_experts"), c.n_experts_shared);
  r.integer(at("moe_intermediate_size"), c.d_expert);
  r.number(at("routed_scaling_factor"), c.expert_scale);
  r.integer(at("hc_mult"), c.n_hc);
  r.integer(at("hc_sinkhorn_iters"), c.sinkhorn_iterations);
  r.number(at("hc_eps"), c.hc_eps);
  r.number(at("rms_norm_eps"), c.rms_eps);
}

void read_rope(const Json& j, MemberReader& r, Config& c) {
  const Json& main = j["rope_parameters"]["main"];
  const Json& compress = j["rope_parameters"]["compress"];
  const auto first = [](const Json* a, const Json* b) { return a ? a : b; };

  if (const Json* rope = find_set(j, "qk_rope_head_dim")) {
    r.integer({rope, "qk_rope_head_dim"}, c.rope_dim);
  } else {
    float share = 0;
    r.number({first(find_set(j, "partial_rotary_factor"), find_set(main, "partial_rotary_factor")),
              "qk_rope_head_dim or partial_rotary_factor"},
             share);
    if (!(share > 0 && share <= 1)) r.fail("partial_rotary_factor is outside 0 to 1");
    if (r.status().ok())
      c.rope_dim = static_cast<int>(std::lround(share * static_cast<float>(c.head_dim)));
  }
  r.number({first(find_set(j, "rope_theta"), find_set(main, "rope_theta")),
            "rope_theta (or rope_parameters.main.rope_theta)"},
           c.rope_base);
  r.number({first(find_set(j, "compress_rope_theta"), find_set(compress, "rope_theta")),
            "compress_rope_theta (or rope_parameters.compress.rope_theta)"},
           c.compress_rope_base);

  const Json* scaling = find_set(j, "rope_scaling");
  const Json& yarn = scaling ? *scaling : compress;
  for (const char* name : {"type", "rope_type"})
    if (const Json* type = find_set(yarn, name); type && type->text != "yarn")
      r.fail(fmt::format("rope_scaling.{} is {}, expected \"yarn\"", name,
                         MemberReader::shown(*type)));
  r.number({find_set(yarn, "factor"), "rope_scaling.factor (or rope_parameters.compress.factor)"},
           c.yarn_factor);
  r.integer({find_set(yarn, "original_max_position_embeddings"),
             "rope_scaling.original_max_position_embeddings (or rope_parameters.compress...)"},
            c.yarn_original_ctx);
  if (const Json* fast = find_set(yarn, "beta_fast"))
    r.number({fast, "beta_fast"}, c.yarn_beta_fast);
  if (const Json* slow = find_set(yarn, "beta_slow"))
    r.number({slow, "beta_slow"}, c.yarn_beta_slow);
}

// The ratio of one entry of layer_types; -1 when it names no kind of layer.
int64_t ratio_of(const Json& type, const Json& rates) {
  if (type.text == "sliding_attention") return 0;
  if (type.text == "compressed_sparse_attention") return rates[type.text].as_int(4);
  if (type.text == "heavily_compressed_attention") return rates[type.text].as_int(128);
  return -1;
}

// Entries past the layers belong to MTP blocks.
Status read_layers(const Json& j, Config& c) {
  const Json* ratios = find_set(j, "compress_ratios");
  const Json* types = find_set(j, "layer_types");
  const Json* list = ratios ? ratios : types;
  const char* name = ratios ? "compress_ratios" : "layer_types";
  if (!list) return bad_input("compress_ratios (or layer_types with compress_rates) is missing");
  if (!list->is_array() || static_cast<int64_t>(list->items.size()) < c.n_layers)
    return bad_input(fmt::format("{} has {} entries, expected at least one per layer ({})", name,
                                 list->items.size(), c.n_layers));
  for (int i = 0; i < c.n_layers; i++) {
    const Json& entry = list->items[i];
    const int64_t ratio = ratios ? entry.as_int(-1) : ratio_of(entry, j["compress_rates"]);
    if (ratio != 0 && ratio != 4 && ratio != 128)
      return bad_input(fmt::format("{}[{}] is {}, expected {}", name, i, MemberReader::shown(entry),
                                   ratios ? "0, 4 or 128"
                                          : "sliding_attention, compressed_sparse_attention of "
                                            "rate 4 or heavily_compressed_attention of rate 128"));
    c.layers.push_back(static_cast<LayerKind>(ratio));
  }
  return ok_status();
}

Status read_hash_layers(const Json& j, Config& c) {
  if (const Json* n = find_set(j, "num_hash_layers")) {
    MemberReader r;
    r.integer({n, "num_hash_layers"}, c.n_hash_layers);
    return r.status();
  }
  const Json* types = find_set(j, "mlp_layer_types");
  if (!types || !types->is_array())
    return bad_input("num_hash_layers (or mlp_layer_types) is missing");
  for (size_t i = 0; i < types->items.size(); i++) {
    if (types->items[i].text != "hash_moe") continue;
    if (static_cast<int>(i) != c.n_hash_layers)
      return bad_input(fmt::format(
          "mlp_layer_types[{}] is hash_moe after a layer that is not; hash layers come first", i));
    c.n_hash_layers++;
  }
  return ok_status();
}

// One clamp for all layers, or one per layer.
Status read_swiglu(const Json& j, Config& c) {
  const Json* limit = find_set(j, "swiglu_limit");
  if (limit && limit->is_number()) {
    c.swiglu_limit.assign(c.n_layers, static_cast<float>(limit->as_double()));
    return ok_status();
  }
  if (!limit || !limit->is_array() || static_cast<int64_t>(limit->items.size()) < c.n_layers)
    return bad_input("swiglu_limit is missing, expected a number or one per layer");
  for (int i = 0; i < c.n_layers; i++)
    c.swiglu_limit.push_back(static_cast<float>(limit->items[i].as_double()));
  return ok_status();
}

Result<Config> read_all(std::string_view text) {
  NW_ASSIGN(const Json j, Json::parse(text));
  if (!j.is_object())
    return bad_input("not an object; take config.json as it came with the weights");
  NW_TRY(check_choices(j));
  Config c;
  MemberReader r;
  read_sizes(j, r, c);
  read_rope(j, r, c);
  NW_TRY(r.status());
  // Before any list is sized by it.
  if (c.n_layers < 1 || c.n_layers > 1024)
    return bad_input(fmt::format("num_hidden_layers is {}, expected 1 to 1024", c.n_layers));
  NW_TRY(read_layers(j, c));
  NW_TRY(read_hash_layers(j, c));
  NW_TRY(read_swiglu(j, c));
  c.prompt_profile = "preview";
  for (const auto& [name, value] : j.members)
    if (name.starts_with("dspark_")) c.prompt_profile = "0731";
  NW_TRY(check_config(c));
  return c;
}

}  // namespace

Result<Config> config_from_hf(std::string_view json) {
  Result<Config> c = read_all(json);
  if (!c.ok()) return c.status().within("config.json");
  return c;
}

}  // namespace narwhal
