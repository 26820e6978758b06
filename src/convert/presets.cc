#include "convert/presets.h"

#include <fmt/format.h>

namespace narwhal {
namespace {

struct PresetRow {
  Preset preset;
  std::string_view name;
  uint32_t file_type;
  DType experts, experts_down, dense, embedding, compressor, small;
};

constexpr PresetRow kPresets[] = {
    {Preset::kF32, "f32", 0, DType::kF32, DType::kF32, DType::kF32, DType::kF32, DType::kF32,
     DType::kF32},
    {Preset::kBF16, "bf16", 32, DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16,
     DType::kBF16, DType::kBF16},
    {Preset::kF16, "f16", 1, DType::kF16, DType::kF16, DType::kF16, DType::kF16, DType::kF16,
     DType::kF16},
    {Preset::kQ8_0, "q8_0", 7, DType::kQ8_0, DType::kQ8_0, DType::kQ8_0, DType::kQ8_0, DType::kQ8_0,
     DType::kF16},
    {Preset::kQ4, "q4", 15, DType::kQ4_K, DType::kQ4_K, DType::kQ8_0, DType::kF16, DType::kF16,
     DType::kF16},
    {Preset::kQ2, "q2", 19, DType::kIQ2_XXS, DType::kQ2_K, DType::kQ8_0, DType::kF16, DType::kF16,
     DType::kF16},
};

const PresetRow& row_of(Preset preset) { return kPresets[static_cast<int>(preset)]; }

Status apply_pattern(const std::vector<TensorSpec>& table, const std::string& pattern, DType type,
                     std::vector<TypeChoice>& choices) {
  bool named = false, set = false;
  for (size_t i = 0; i < table.size(); i++) {
    if (!glob_match(pattern, table[i].name)) continue;
    named = true;
    if (!type_allowed(table[i].role, type)) continue;
    choices[i].wanted = type;
    set = true;
  }
  if (set) return ok_status();
  if (!named)
    return usage(
        fmt::format("tensor type pattern \"{}\" matches no tensor; write GGUF names such as "
                    "blk.*.ffn_down_exps.weight",
                    pattern));
  return usage(
      fmt::format("\"{}\" matches only tensors that cannot be stored as {}; vectors are "
                  "f32, hash tables i32, the rest f32, f16, bf16, q8_0, q4_k, q2_k, "
                  "iq2_xxs or mxfp4",
                  pattern, dtype_name(type)));
}

}  // namespace

std::optional<Preset> preset_by_name(std::string_view name) {
  for (const PresetRow& row : kPresets)
    if (row.name == name) return row.preset;
  return std::nullopt;
}

uint32_t preset_file_type(Preset preset) { return row_of(preset).file_type; }

DType preset_type(Preset preset, TensorRole role) {
  const PresetRow& row = row_of(preset);
  switch (role) {
    case TensorRole::kVector:
      return DType::kF32;
    case TensorRole::kHashTable:
      return DType::kI32;
    case TensorRole::kExpertGate:
    case TensorRole::kExpertUp:
      return row.experts;
    case TensorRole::kExpertDown:
      return row.experts_down;
    case TensorRole::kAttention:
    case TensorRole::kShared:
    case TensorRole::kOutput:
      return row.dense;
    case TensorRole::kEmbedding:
      return row.embedding;
    case TensorRole::kCompressor:
    case TensorRole::kIndexer:
      return row.compressor;
    case TensorRole::kHcFn:
    case TensorRole::kRouter:
      return row.small;
  }
  return DType::kF32;
}

DType type_that_fits(DType wanted, int64_t n_in) {
  for (const DType t : {wanted, DType::kQ8_0})
    if (n_in % block_elements(t) == 0) return t;
  return DType::kF16;
}

bool glob_match(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0;
  size_t star = std::string_view::npos, resume = 0;  // the last *, and where it gave up
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      p++;
      t++;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') p++;
  return p == pattern.size();
}

Result<std::vector<TypeChoice>> choose_types(const std::vector<TensorSpec>& table, Preset preset,
                                             const TensorTypes& patterns) {
  std::vector<TypeChoice> choices;
  for (const TensorSpec& spec : table) {
    const DType type = preset_type(preset, spec.role);
    choices.push_back({type, type});
  }
  for (const auto& [pattern, type] : patterns) NW_TRY(apply_pattern(table, pattern, type, choices));

  DType gate = DType::kF32;
  for (size_t i = 0; i < table.size(); i++) {
    if (table[i].role != TensorRole::kVector && table[i].role != TensorRole::kHashTable)
      choices[i].type = type_that_fits(choices[i].wanted, table[i].dims[0]);
    // The table lists gate before up.
    if (table[i].role == TensorRole::kExpertGate) gate = choices[i].type;
    if (table[i].role == TensorRole::kExpertUp && choices[i].type != gate)
      return usage(fmt::format("{} would be {} and its gate {}; give both one type", table[i].name,
                               dtype_name(choices[i].type), dtype_name(gate)));
  }
  return choices;
}

}  // namespace narwhal
