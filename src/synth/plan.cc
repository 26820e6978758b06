#include "synth/plan.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "synth/random.h"

namespace narwhal::synth_detail {
namespace {

struct Recipe {
  DType gate_up, down, dense;
};

constexpr Recipe kQ2 = {DType::kIQ2_XXS, DType::kQ2_K, DType::kQ8_0};
constexpr Recipe kQ4 = {DType::kQ4_K, DType::kQ4_K, DType::kQ8_0};
constexpr int kMixedLayers = 6;  // at the end of the `mixed` recipe

Result<Recipe> recipe_for(const std::string& quant, int layer, int n_layers) {
  if (quant == "q2") return kQ2;
  if (quant == "q4") return kQ4;
  if (quant == "mixed") return layer >= n_layers - kMixedLayers ? kQ4 : kQ2;
  if (quant == "q8") return Recipe{DType::kQ8_0, DType::kQ8_0, DType::kQ8_0};
  if (quant == "mxfp4") return Recipe{DType::kMXFP4, DType::kMXFP4, DType::kQ8_0};
  if (quant == "f16") return Recipe{DType::kF16, DType::kF16, DType::kF16};
  return usage(fmt::format("--quant {}: expected q2, q4, mixed, q8, mxfp4 or f16", quant));
}

DType type_of(TensorRole role, const Recipe& recipe, bool mtp) {
  switch (role) {
    case TensorRole::kVector:
      return DType::kF32;
    case TensorRole::kHashTable:
      return DType::kI32;
    case TensorRole::kHcFn:
    case TensorRole::kRouter:  // the published MTP files keep these two in F32
      return mtp ? DType::kF32 : DType::kF16;
    case TensorRole::kEmbedding:
    case TensorRole::kCompressor:
    case TensorRole::kIndexer:
      return DType::kF16;
    case TensorRole::kAttention:
    case TensorRole::kShared:
    case TensorRole::kOutput:
      return recipe.dense;
    case TensorRole::kExpertGate:
    case TensorRole::kExpertUp:
      return recipe.gate_up;
    case TensorRole::kExpertDown:
      return recipe.down;
  }
  return DType::kF32;
}

// Small tensors: a plain value, and in the rich flavor noise around it.
struct Vector {
  std::string_view suffix;
  double plain, rich, rich_std;
};
constexpr Vector kVectors[] = {
    {"norm.weight", 1, 1, 0.1},   {"_scale.weight", 0.1, 0.6, 0.1}, {"_base.weight", 0, 0, 0.5},
    {"_sinks.weight", 0, 0, 0.7}, {"_probs_b.bias", 0, 0, 0.05},    {"_ape.weight", 0, 0, 0.5},
};

Fill fill_of(const TensorSpec& t, const Config& c, bool rich) {
  Fill f;
  if (t.role == TensorRole::kHashTable) {
    f.kind = Fill::Kind::kIds;
    f.limit = c.n_experts;
    f.row = c.n_experts_used;
    return f;
  }
  for (const Vector& v : kVectors) {
    if (!t.name.ends_with(v.suffix)) continue;
    f.kind = Fill::Kind::kAround;
    f.mean = rich ? v.rich : v.plain;
    f.std = rich ? v.rich_std : 0;
    if (t.name.ends_with("_base.weight") && t.dims[0] == c.hc_mixes()) {
      f.kind = Fill::Kind::kMixer;  // leans to the identity, so that streams stay apart
      f.mean = 2;
      f.limit = c.n_hc;
    }
    return f;
  }
  f.std = t.role == TensorRole::kEmbedding ? 1 : 1 / std::sqrt(static_cast<double>(t.dims[0]));
  return f;
}

Status check_rows(const PlannedTensor& t) {
  const int block = block_elements(t.type);
  if (t.spec.dims[0] % block == 0) return ok_status();
  return usage(
      fmt::format("{}: rows of {} values are no whole blocks of {} ({}); change the dimension or "
                  "use --quant f16",
                  t.spec.name, t.spec.dims[0], dtype_name(t.type), block));
}

// Experts of layer l take the bytes of layer l % n, unless a mixed recipe gave them another type.
void alias_experts(int n, std::vector<PlannedTensor>& tensors) {
  std::map<std::tuple<int, TensorRole, DType>, int> owner;
  for (int i = 0; i < static_cast<int>(tensors.size()); i++) {
    PlannedTensor& t = tensors[i];
    if (!t.is_expert()) continue;
    const auto [it, first] = owner.try_emplace({t.spec.layer % n, t.spec.role, t.type}, i);
    if (!first) t.alias_of = it->second;
  }
}

}  // namespace

bool PlannedTensor::is_expert() const {
  return spec.role == TensorRole::kExpertGate || spec.role == TensorRole::kExpertUp ||
         spec.role == TensorRole::kExpertDown;
}

int64_t PlannedTensor::n_elements() const {
  int64_t n = 1;
  for (const int64_t d : spec.dims) n *= d;
  return n;
}

int64_t PlannedTensor::n_bytes() const {
  return row_bytes(type, spec.dims[0]) * (n_elements() / spec.dims[0]);
}

Result<std::vector<PlannedTensor>> plan_tensors(const Config& config, const SynthOptions& options) {
  if (options.flavor != "plain" && options.flavor != "rich")
    return usage(fmt::format("--flavor {}: expected plain or rich", options.flavor));
  std::vector<PlannedTensor> tensors;
  double n_elements = 0;
  for (TensorSpec& spec : options.mtp ? mtp_table(config) : tensor_table(config)) {
    NW_ASSIGN(const Recipe recipe, recipe_for(options.quant, spec.layer, config.n_layers));
    PlannedTensor t;
    t.type = type_of(spec.role, recipe, options.mtp);
    t.fill = fill_of(spec, config, options.flavor == "rich");
    t.fill.seed = mix64(options.seed * 0x10001 + hash64(spec.name));
    t.spec = std::move(spec);
    NW_TRY(check_rows(t));
    double n = 1;
    for (const int64_t d : t.spec.dims) n *= static_cast<double>(d);
    n_elements += n;
    tensors.push_back(std::move(t));
  }
  if (n_elements > 0x1p55)  // sizes in bytes stay well inside 64 bits
    return usage(fmt::format("{:.3g} weights in all; choose smaller dimensions", n_elements));
  if (options.alias_experts > 0) alias_experts(options.alias_experts, tensors);
  return tensors;
}

}  // namespace narwhal::synth_detail
