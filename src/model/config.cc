#include "model/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "gguf/names.h"

namespace narwhal {
namespace {

namespace names = gguf::names;

// Reads metadata into plain fields and keeps the first fault.
class Reader {
 public:
  explicit Reader(const gguf::File& file) : file_(file) {}

  void integer(const char* key, int& field, bool required = true) {
    int64_t v = field;
    integer(key, v, required);
    if (status_.ok() && (v < 0 || v > INT32_MAX))
      fail(fmt::format("{} is {}, expected 0 to {}", key, v, INT32_MAX));
    field = static_cast<int>(v);
  }
  void integer(const char* key, int64_t& field, bool required = true) {
    if (skip(key, required)) return;
    take(file_.get_int(key), field);
  }
  void number(const char* key, float& field, bool required = true) {
    if (skip(key, required)) return;
    double v = field;
    take(file_.get_float(key), v);
    field = static_cast<float>(v);
  }
  void text(const char* key, std::string& field) {
    if (skip(key, false)) return;
    std::string_view v;
    take(file_.get_string(key), v);
    field = v;
  }
  void fail(std::string message) {
    if (status_.ok()) status_ = bad_input(std::move(message));
  }
  const Status& status() const { return status_; }

 private:
  bool skip(const char* key, bool required) {
    return !status_.ok() || (!required && !file_.has(key));
  }
  template <class T>
  void take(Result<T> r, T& field) {
    if (r.ok())
      field = *std::move(r);
    else
      status_ = r.status();
  }
  const gguf::File& file_;
  Status status_;
};

// Entries past the layers belong to MTP blocks; small models state exactly one per layer.
Status read_layers(const gguf::File& file, Config& c) {
  NW_ASSIGN(const std::vector<int64_t> ratios, file.get_ints(names::kCompressRatios));
  if (static_cast<int64_t>(ratios.size()) < c.n_layers)
    return bad_input(fmt::format("{} has {} entries, expected at least one per layer ({})",
                                 names::kCompressRatios, ratios.size(), c.n_layers));
  for (int i = 0; i < c.n_layers; i++) {
    if (ratios[i] != 0 && ratios[i] != 4 && ratios[i] != 128)
      return bad_input(
          fmt::format("{}[{}] is {}, expected 0, 4 or 128", names::kCompressRatios, i, ratios[i]));
    c.layers.push_back(static_cast<LayerKind>(ratios[i]));
  }
  return ok_status();
}

// One clamp per layer, or one number for all.
Status read_swiglu(const gguf::File& file, Config& c) {
  if (const auto one = file.get_float(names::kSwigluClamp); one.ok()) {
    c.swiglu_limit.assign(c.n_layers, static_cast<float>(*one));
    return ok_status();
  }
  NW_ASSIGN(const std::vector<double> limits, file.get_floats(names::kSwigluClamp));
  if (static_cast<int64_t>(limits.size()) < c.n_layers)
    return bad_input(fmt::format("{} has {} entries, expected one per layer ({})",
                                 names::kSwigluClamp, limits.size(), c.n_layers));
  c.swiglu_limit.assign(limits.begin(), limits.begin() + c.n_layers);
  return ok_status();
}

Status check_fixed_choices(const gguf::File& file) {
  if (file.has(names::kHeadCountKv)) {
    NW_ASSIGN(const int64_t n, file.get_int(names::kHeadCountKv));
    if (n != 1) return bad_input(fmt::format("{} is {}, expected 1", names::kHeadCountKv, n));
  }
  if (file.has(names::kValueLength) && file.has(names::kKeyLength)) {
    NW_ASSIGN(const int64_t v, file.get_int(names::kValueLength));
    NW_ASSIGN(const int64_t k, file.get_int(names::kKeyLength));
    if (v != k)
      return bad_input(
          fmt::format("{} is {}, expected {} as {}", names::kValueLength, v, k, names::kKeyLength));
  }
  if (file.has(names::kYarnType)) {
    NW_ASSIGN(const std::string_view type, file.get_string(names::kYarnType));
    if (type != "yarn")
      return bad_input(fmt::format("{} is \"{}\", expected \"yarn\"", names::kYarnType, type));
  }
  if (file.has(names::kExpertGating)) {
    NW_ASSIGN(const int64_t f, file.get_int(names::kExpertGating));
    if (f != 4)
      return bad_input(
          fmt::format("{} is {}, expected 4 (sqrt of softplus)", names::kExpertGating, f));
  }
  if (file.has(names::kExpertNorm)) {
    NW_ASSIGN(const bool norm, file.get_bool(names::kExpertNorm));
    if (!norm) return bad_input(fmt::format("{} is false, expected true", names::kExpertNorm));
  }
  return ok_status();
}

}  // namespace

int Config::n_layers_of(LayerKind kind) const {
  return static_cast<int>(std::count(layers.begin(), layers.end(), kind));
}

Result<Config> read_config(const gguf::File& file) {
  NW_ASSIGN(const std::string_view arch, file.get_string(names::kGeneralArchitecture));
  if (arch != names::kArchitecture)
    return bad_input(
        fmt::format("{}: architecture is \"{}\", expected \"{}\"; this engine runs DeepSeek V4 "
                    "Flash and models of its architecture only",
                    file.name(), arch, names::kArchitecture));
  Config c;
  Reader r(file);
  r.text(names::kGeneralName, c.name);
  r.text(names::kPromptProfile, c.prompt_profile);
  r.integer(names::kBlockCount, c.n_layers);
  r.integer(names::kContextLength, c.max_ctx);
  r.integer(names::kEmbeddingLength, c.d_model);
  r.integer(names::kVocabSize, c.n_vocab);
  r.integer(names::kHeadCount, c.n_heads);
  r.integer(names::kKeyLength, c.head_dim);
  r.integer(names::kRopeDim, c.rope_dim);
  r.integer(names::kQLora, c.q_lora);
  r.integer(names::kOLora, c.o_lora);
  r.integer(names::kOGroups, c.o_groups);
  r.integer(names::kExpertCount, c.n_experts);
  r.integer(names::kExpertUsed, c.n_experts_used);
  r.integer(names::kExpertShared, c.n_experts_shared, false);
  r.integer(names::kExpertLength, c.d_expert);
  r.number(names::kExpertScale, c.expert_scale);
  r.integer(names::kHashLayers, c.n_hash_layers);
  r.integer(names::kSlidingWindow, c.window);
  r.integer(names::kIndexHeads, c.n_index_heads);
  r.integer(names::kIndexDim, c.index_dim);
  r.integer(names::kIndexTopK, c.index_top_k);
  r.integer(names::kHcCount, c.n_hc);
  r.integer(names::kHcSinkhorn, c.sinkhorn_iterations);
  r.number(names::kHcEps, c.hc_eps);
  r.number(names::kRmsEps, c.rms_eps);
  r.number(names::kRopeBase, c.rope_base);
  r.number(names::kCompressRopeBase, c.compress_rope_base);
  r.number(names::kYarnFactor, c.yarn_factor);
  r.integer(names::kYarnOriginalContext, c.yarn_original_ctx);
  r.number(names::kYarnBetaFast, c.yarn_beta_fast, false);
  r.number(names::kYarnBetaSlow, c.yarn_beta_slow, false);
  Status status = r.status();
  if (status.ok()) status = check_fixed_choices(file);
  if (status.ok()) status = read_layers(file, c);
  if (status.ok()) status = read_swiglu(file, c);
  if (status.ok()) status = check_config(c);
  if (!status.ok()) return status.within(file.name());
  return c;
}

Status check_config(const Config& c) {
  struct Positive {
    const char* name;
    int64_t value;
  };
  for (const auto& [name, value] : {Positive{"block count", c.n_layers},
                                    {"vocabulary", c.n_vocab},
                                    {"context", c.max_ctx},
                                    {"width", c.d_model},
                                    {"heads", c.n_heads},
                                    {"head dimension", c.head_dim},
                                    {"rope dimension", c.rope_dim},
                                    {"q rank", c.q_lora},
                                    {"output rank", c.o_lora},
                                    {"output groups", c.o_groups},
                                    {"window", c.window},
                                    {"experts", c.n_experts},
                                    {"experts used", c.n_experts_used},
                                    {"expert width", c.d_expert},
                                    {"streams", c.n_hc},
                                    {"YaRN original context", c.yarn_original_ctx},
                                    {"Sinkhorn iterations", c.sinkhorn_iterations}})
    if (value <= 0)
      return bad_input(fmt::format("{} is {}, expected a positive number", name, value));
  // Bounds that keep every product below in 64 bits and every buffer sane.
  if (c.n_layers > 1024 || c.n_hc > 16 || c.d_model > (1 << 20) || c.n_heads > 4096 ||
      c.head_dim > 4096 || c.n_vocab > (1 << 24) || c.n_experts > 65536 || c.window > (1 << 20) ||
      c.max_ctx > (int64_t{1} << 30) || c.q_lora > (1 << 20) || c.o_lora > (1 << 20) ||
      c.d_expert > (1 << 20) || c.n_index_heads > 4096 || c.index_dim > 4096 ||
      c.index_top_k > (1 << 20) || c.sinkhorn_iterations > 1000)
    return bad_input(
        "a dimension is far beyond any model of this architecture; the file is damaged");
  if (static_cast<int>(c.layers.size()) != c.n_layers ||
      static_cast<int>(c.swiglu_limit.size()) != c.n_layers)
    return bad_input("the layer schedule does not have one entry per layer");
  if (c.rope_dim % 2 != 0 || c.rope_dim >= c.head_dim || c.nope_dim() % 64 != 0)
    return bad_input(fmt::format(
        "head dimension {} less rope dimension {} is {}, expected a positive multiple of 64",
        c.head_dim, c.rope_dim, c.nope_dim()));
  if (c.n_heads % c.o_groups != 0)
    return bad_input(
        fmt::format("{} heads do not divide into {} output groups", c.n_heads, c.o_groups));
  if (c.n_experts_used > c.n_experts)
    return bad_input(fmt::format("{} experts used of {}", c.n_experts_used, c.n_experts));
  if (c.n_experts_shared != 1)
    return bad_input(fmt::format("{} shared experts, expected 1", c.n_experts_shared));
  if (c.n_hash_layers > c.n_layers)
    return bad_input(fmt::format("{} hash layers of {}", c.n_hash_layers, c.n_layers));
  if (c.n_layers_of(LayerKind::kCsa) > 0) {
    if (c.n_index_heads <= 0 || c.index_top_k <= 0)
      return bad_input("a layer with ratio 4 needs indexer heads and a top-k");
    if (c.index_dim < 32 || (c.index_dim & (c.index_dim - 1)) != 0 || c.index_dim < c.rope_dim)
      return bad_input(fmt::format(
          "indexer dimension {} is not a power of two of at least 32 and the rope dimension",
          c.index_dim));
  }
  for (const float v : {c.rms_eps, c.hc_eps, c.rope_base, c.compress_rope_base, c.yarn_factor,
                        c.yarn_beta_fast, c.yarn_beta_slow, c.expert_scale})
    if (!std::isfinite(v) || v <= 0)
      return bad_input(fmt::format("a constant is {}, expected a positive number", v));
  for (const float v : c.swiglu_limit)
    if (!std::isfinite(v) || v <= 0)
      return bad_input(fmt::format("a SwiGLU clamp is {}, expected a positive number", v));
  if (c.n_hash_layers < 0)
    return bad_input(fmt::format("{} hash layers, expected 0 or more", c.n_hash_layers));
  return ok_status();
}

void write_config(const Config& c, gguf::Writer& w) {
  w.add_string(names::kGeneralArchitecture, names::kArchitecture);
  w.add_string(names::kGeneralName, c.name);
  if (!c.prompt_profile.empty()) w.add_string(names::kPromptProfile, c.prompt_profile);
  const auto u32 = [&w](const char* key, int64_t v) { w.add_u32(key, static_cast<uint32_t>(v)); };
  u32(names::kBlockCount, c.n_layers);
  u32(names::kContextLength, c.max_ctx);
  u32(names::kEmbeddingLength, c.d_model);
  u32(names::kVocabSize, c.n_vocab);
  u32(names::kHeadCount, c.n_heads);
  u32(names::kHeadCountKv, 1);
  u32(names::kKeyLength, c.head_dim);
  u32(names::kValueLength, c.head_dim);
  u32(names::kRopeDim, c.rope_dim);
  u32(names::kQLora, c.q_lora);
  u32(names::kOLora, c.o_lora);
  u32(names::kOGroups, c.o_groups);
  u32(names::kExpertCount, c.n_experts);
  u32(names::kExpertUsed, c.n_experts_used);
  u32(names::kExpertShared, c.n_experts_shared);
  u32(names::kExpertLength, c.d_expert);
  w.add_f32(names::kExpertScale, c.expert_scale);
  w.add_bool(names::kExpertNorm, true);
  u32(names::kExpertGating, 4);
  u32(names::kHashLayers, c.n_hash_layers);
  u32(names::kSlidingWindow, c.window);
  u32(names::kIndexHeads, c.n_index_heads);
  u32(names::kIndexDim, c.index_dim);
  u32(names::kIndexTopK, c.index_top_k);
  u32(names::kHcCount, c.n_hc);
  u32(names::kHcSinkhorn, c.sinkhorn_iterations);
  w.add_f32(names::kHcEps, c.hc_eps);
  w.add_f32(names::kRmsEps, c.rms_eps);
  std::vector<int32_t> ratios;
  for (const LayerKind k : c.layers) ratios.push_back(static_cast<int32_t>(k));
  w.add_i32s(names::kCompressRatios, ratios);
  w.add_f32s(names::kSwigluClamp, c.swiglu_limit);
  w.add_f32(names::kRopeBase, c.rope_base);
  w.add_f32(names::kCompressRopeBase, c.compress_rope_base);
  w.add_string(names::kYarnType, "yarn");
  w.add_f32(names::kYarnFactor, c.yarn_factor);
  u32(names::kYarnOriginalContext, c.yarn_original_ctx);
  w.add_f32(names::kYarnBetaFast, c.yarn_beta_fast);
  w.add_f32(names::kYarnBetaSlow, c.yarn_beta_slow);
}

Config flash_config() {
  Config c;
  c.name = "DeepSeek V4 Flash";
  c.n_layers = 43;
  c.n_vocab = 129280;
  c.max_ctx = 1048576;
  c.d_model = 4096;
  c.n_heads = 64;
  c.head_dim = 512;
  c.q_lora = 1024;
  c.o_groups = 8;
  c.o_lora = 1024;
  for (int i = 0; i < c.n_layers; i++)
    c.layers.push_back(i < 2        ? LayerKind::kSliding
                       : i % 2 == 0 ? LayerKind::kCsa
                                    : LayerKind::kHca);
  c.n_index_heads = 64;
  c.index_top_k = 512;
  c.n_experts = 256;
  c.n_experts_used = 6;
  c.d_expert = 2048;
  c.n_hash_layers = 3;
  c.swiglu_limit.assign(c.n_layers, 10.0f);
  return c;
}

}  // namespace narwhal
