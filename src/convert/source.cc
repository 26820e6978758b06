#include "convert/source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "convert/hf_names.h"
#include "quant/f16.h"
#include "quant/sources.h"

namespace narwhal {
namespace {

using safetensors::SourceType;
using safetensors::Tensor;
using Form = SourceMatrix::Form;
using Shape = std::vector<int64_t>;

constexpr int64_t kFp8Tile = 128, kFp4Block = 32;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Tensors need not be aligned in the file.
template <class T>
T load(const std::byte* p, int64_t i) {
  T v;
  std::memcpy(&v, p + i * static_cast<int64_t>(sizeof v), sizeof v);
  return v;
}

std::optional<Form> plain_form(SourceType t) {
  switch (t) {
    case SourceType::kF32:
      return Form::kF32;
    case SourceType::kF16:
      return Form::kF16;
    case SourceType::kBF16:
      return Form::kBF16;
    default:
      return std::nullopt;
  }
}

bool is_fp4(SourceType t) { return t == SourceType::kI8 || t == SourceType::kU8; }

// Bits of a row as stored, without its scales.
int64_t stored_row_bytes(Form form, int64_t n_in) {
  switch (form) {
    case Form::kF32:
      return n_in * 4;
    case Form::kF16:
    case Form::kBF16:
      return n_in * 2;
    case Form::kFp8:
      return n_in;
    case Form::kFp4:
      return n_in / 2;
  }
  return 0;
}

Status wrong_shape(const Tensor& t, const Shape& expected) {
  return bad_input(
      fmt::format("{} has shape [{}], expected [{}]; config.json and the weights do "
                  "not belong together",
                  t.name, fmt::join(t.shape, ", "), fmt::join(expected, ", ")));
}

Status wrong_form(const Tensor& t, std::string_view expected) {
  return bad_input(fmt::format("{} is stored as {}, expected {}", t.name,
                               safetensors::source_type_name(t.type), expected));
}

Shape reversed(const std::vector<int64_t>& dims) { return {dims.rbegin(), dims.rend()}; }

const uint8_t* as_u8(const std::byte* p) { return reinterpret_cast<const uint8_t*>(p); }

}  // namespace

std::string_view form_name(Form form) {
  switch (form) {
    case Form::kF32:
      return "F32";
    case Form::kF16:
      return "F16";
    case Form::kBF16:
      return "BF16";
    case Form::kFp8:
      return "FP8";
    case Form::kFp4:
      return "FP4";
  }
  return "";
}

Status SourceMatrix::read_row(int64_t r, float* dst) const {
  const auto located = [&](const Status& s) { return s.within(fmt::format("{} row {}", name, r)); };
  const std::byte* row = rows + r * stored_row_bytes(form, n_in);
  switch (form) {
    case Form::kF32:
      std::memcpy(dst, row, static_cast<size_t>(n_in) * sizeof(float));
      break;
    case Form::kF16:
      for (int64_t i = 0; i < n_in; i++) dst[i] = quant::f16_to_f32(load<uint16_t>(row, i));
      break;
    case Form::kBF16:
      for (int64_t i = 0; i < n_in; i++) dst[i] = quant::bf16_to_f32(load<uint16_t>(row, i));
      break;
    case Form::kFp8:
      return located(quant::decode_fp8_row(
          as_u8(row), as_u8(scales + r / kFp8Tile * ceil_div(n_in, kFp8Tile)), n_in, dst));
    case Form::kFp4:
      return located(
          quant::decode_fp4_row(as_u8(row), as_u8(scales + r * (n_in / kFp4Block)), n_in, dst));
  }
  for (int64_t i = 0; i < n_in; i++)
    if (!std::isfinite(dst[i]))
      return located(bad_input(fmt::format(
          "value {} is {}, expected a finite number; the checkpoint is damaged", i, dst[i])));
  return ok_status();
}

Status SourceMatrix::repack_row(int64_t r, void* mxfp4) const {
  NW_CHECK(form == Form::kFp4, "{} is {}, not FP4", name, form_name(form));
  return quant::repack_fp4_row(as_u8(rows + r * (n_in / 2)), as_u8(scales + r * (n_in / kFp4Block)),
                               n_in, mxfp4)
      .within(fmt::format("{} row {}", name, r));
}

Sources::Sources(const safetensors::Checkpoint& checkpoint) {
  for (const Tensor& t : checkpoint.tensors()) {
    constexpr std::string_view kPrefix = "model.";
    const bool prefixed = t.name.starts_with(kPrefix);
    // Of a tensor stored under both names the second stays unused and is reported so.
    const auto [it, added] =
        entries_.try_emplace(t.name.substr(prefixed ? kPrefix.size() : 0), Entry{&t});
    if (!added) entries_.try_emplace(t.name, Entry{&t});
  }
}

const Tensor* Sources::take(const std::string& name) {
  const auto it = entries_.find(name);
  if (it == entries_.end()) return nullptr;
  it->second.used = true;
  return it->second.tensor;
}

std::vector<std::string> Sources::unused() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_)
    if (!entry.used) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

Result<const Tensor*> Sources::scales_of(const Tensor& t, const Shape& shape) {
  constexpr size_t kPrefix = 6;  // "model."
  const std::string name =
      scale_name(t.name.starts_with("model.") ? t.name.substr(kPrefix) : t.name);
  const Tensor* scales = take(name);
  if (!scales)
    return bad_input(fmt::format("{} is missing, the scales of {}; download the checkpoint again",
                                 name, t.name));
  if (scales->type != SourceType::kF8_E8M0) return wrong_form(*scales, "F8_E8M0");
  if (scales->shape != shape) return wrong_shape(*scales, shape);
  return scales;
}

// A matrix or vector that has the tensor to itself.
Result<SourceMatrix> Sources::whole(const TensorSpec& spec, const Tensor& t) {
  SourceMatrix m{t.name, Form::kF32, spec.dims[0], spec.dims.size() > 1 ? spec.dims[1] : 1, t.data};
  const bool is_matrix = spec.dims.size() > 1;
  Shape shape = is_matrix ? Shape{m.n_out, m.n_in} : Shape{m.n_in};
  if (const auto form = plain_form(t.type)) {
    m.form = *form;
    const bool scalar = !is_matrix && m.n_in == 1 && t.shape.empty();
    if (t.shape != shape && !scalar) return wrong_shape(t, shape);
    return m;
  }
  const bool fp8 = t.type == SourceType::kF8_E4M3;
  if (!is_matrix || (!fp8 && !is_fp4(t.type)))
    return wrong_form(
        t, is_matrix ? "F32, F16, BF16, F8_E4M3 or I8 (two FP4 per byte)" : "F32, F16 or BF16");
  if (!fp8 && m.n_in % kFp4Block != 0)
    return bad_input(
        fmt::format("{}: rows of {} FP4 values, expected whole blocks of 32", t.name, m.n_in));
  m.form = fp8 ? Form::kFp8 : Form::kFp4;
  if (!fp8) shape[1] /= 2;
  if (t.shape != shape) return wrong_shape(t, shape);
  NW_ASSIGN(const Tensor* scales,
            scales_of(t, fp8 ? Shape{ceil_div(m.n_out, kFp8Tile), ceil_div(m.n_in, kFp8Tile)}
                             : Shape{m.n_out, m.n_in / kFp4Block}));
  m.scales = scales->data;
  return m;
}

// Part `part` of `parts` equal row ranges of every expert of a fused tensor [expert, rows, in].
Result<std::vector<SourceMatrix>> Sources::stack(const TensorSpec& spec, const Tensor& t,
                                                 int64_t parts, int64_t part) const {
  const int64_t n_in = spec.dims[0], n_out = spec.dims[1], n_experts = spec.dims[2];
  const auto form = plain_form(t.type);
  if (!form) return wrong_form(t, "F32, F16 or BF16 (all experts in one tensor)");
  const Shape shape{n_experts, parts * n_out, n_in};
  if (t.shape != shape) return wrong_shape(t, shape);
  std::vector<SourceMatrix> experts;
  const int64_t matrix_bytes = n_out * stored_row_bytes(*form, n_in);
  for (int64_t e = 0; e < n_experts; e++)
    experts.push_back(
        {t.name, *form, n_in, n_out, t.data + (e * parts + part) * matrix_bytes, nullptr});
  return experts;
}

Result<std::vector<SourceMatrix>> Sources::matrices(const TensorSpec& spec) {
  const std::vector<SourceName> names = source_names(spec);
  for (const auto& [name, part] : names) {
    const Tensor* t = take(name);
    if (!t) continue;
    using Part = SourceName::Part;
    if (part != Part::kWhole)
      return stack(spec, *t, part == Part::kStack ? 1 : 2, part == Part::kStackUp ? 1 : 0);
    NW_ASSIGN(const SourceMatrix m, whole(spec, *t));
    return std::vector{m};
  }
  const auto missing = [&](const std::string& official, const std::string& other) {
    return bad_input(
        fmt::format("{} (or {}) is missing, the source of {}; the checkpoint is incomplete",
                    official, other, spec.name));
  };
  if (!is_expert_stack(spec.role)) return missing(names.front().name, names.back().name);

  TensorSpec one = spec;
  one.dims.pop_back();
  std::vector<SourceMatrix> experts;
  for (int64_t e = 0; e < spec.dims[2]; e++) {
    const std::vector<std::string> spellings = expert_source_names(spec, e);
    const Tensor* t = nullptr;
    for (const std::string& name : spellings)
      if (!t) t = take(name);
    if (!t) return missing(spellings.front(), names.front().name);
    NW_ASSIGN(const SourceMatrix m, whole(one, *t));
    experts.push_back(m);
  }
  return experts;
}

Result<std::vector<int32_t>> Sources::hash_table(const TensorSpec& spec, int n_experts) {
  const std::vector<SourceName> names = source_names(spec);
  const Tensor* t = nullptr;
  for (const auto& source : names)
    if (!t) t = take(source.name);
  if (!t)
    return bad_input(
        fmt::format("{} (or {}) is missing, the source of {}; the checkpoint is "
                    "incomplete",
                    names.front().name, names.back().name, spec.name));
  if (t->type != SourceType::kI64 && t->type != SourceType::kI32)
    return wrong_form(*t, "I64 or I32");
  if (t->shape != reversed(spec.dims)) return wrong_shape(*t, reversed(spec.dims));
  std::vector<int32_t> ids(static_cast<size_t>(t->n_elements()));
  for (size_t i = 0; i < ids.size(); i++) {
    const auto at = static_cast<int64_t>(i);
    const int64_t id =
        t->type == SourceType::kI64 ? load<int64_t>(t->data, at) : load<int32_t>(t->data, at);
    if (id < 0 || id >= n_experts)
      return bad_input(fmt::format("{}: expert id {} at entry {}, expected 0 to {}", t->name, id, i,
                                   n_experts - 1));
    ids[i] = static_cast<int32_t>(id);
  }
  return ids;
}

}  // namespace narwhal
