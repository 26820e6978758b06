#include "convert/convert.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include "base/file.h"
#include "base/threads.h"
#include "convert/encode.h"
#include "convert/hf_config.h"
#include "convert/hf_names.h"
#include "convert/imatrix.h"
#include "convert/presets.h"
#include "convert/source.h"
#include "convert/tokenizer_keys.h"
#include "gguf/names.h"
#include "gguf/writer.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

namespace fs = std::filesystem;

struct PlannedTensor {
  TensorSpec spec;
  EncodeJob job;               // of a weight
  std::vector<int32_t> table;  // of a hash table
};

std::string join_path(const std::string& folder, const char* file) {
  return (fs::path(folder) / file).string();
}

bool exists(const std::string& path) {
  std::error_code ec;
  return fs::exists(path, ec);
}

// "models/Flash/" -> "Flash".
std::string folder_name(const std::string& folder) {
  std::error_code ec;
  const fs::path full = fs::weakly_canonical(fs::path(folder), ec);
  const fs::path path = ec ? fs::path(folder) : full;
  return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

Status check_options(const ConvertOptions& o) {
  if (o.checkpoint.empty() || o.output.empty())
    return usage("convert needs a checkpoint folder and an output path");
  if (!preset_by_name(o.type))
    return usage(fmt::format("type \"{}\", expected f32, bf16, f16, q8_0, q4 or q2", o.type));
  if (!o.prompt_profile.empty() && o.prompt_profile != "preview" && o.prompt_profile != "0731")
    return usage(fmt::format("prompt profile \"{}\", expected preview or 0731", o.prompt_profile));
  std::error_code ec;
  if (!fs::is_directory(o.checkpoint, ec))
    return bad_input(
        fmt::format("{} is not a folder, expected one with config.json and "
                    "model.safetensors or model.safetensors.index.json",
                    o.checkpoint));
  return ok_status();
}

Result<Config> load_config(const ConvertOptions& o) {
  NW_ASSIGN(const std::string text, read_file(join_path(o.checkpoint, "config.json")));
  Result<Config> config = config_from_hf(text);
  if (!config.ok()) return config.status().within(o.checkpoint);
  config->name = o.name.empty() ? folder_name(o.checkpoint) : o.name;
  NW_TRY(check_utf8(config->name).within("name"));
  if (!o.prompt_profile.empty()) config->prompt_profile = o.prompt_profile;
  return config;
}

Status add_tokenizer(const ConvertOptions& o, const Config& config, gguf::Writer& writer,
                     std::vector<std::string>& warnings) {
  const std::string path =
      o.tokenizer.empty() ? join_path(o.checkpoint, "tokenizer.json") : o.tokenizer;
  if (o.tokenizer.empty() && !exists(path)) {
    warnings.push_back(
        fmt::format("no tokenizer.json in {}; the model can be run on token ids only, or give a "
                    "tokenizer and convert again",
                    o.checkpoint));
    return ok_status();
  }
  NW_ASSIGN(const std::string text, read_file(path));
  return write_tokenizer(text, config.n_vocab, writer, warnings).within(path);
}

// The columns' importance for every matrix of a tensor; empty where the file has none. An all-zero
// row says nothing about the columns and counts as none.
Status find_importance(const Imatrix& imatrix, const TensorSpec& spec, EncodeJob& job,
                       int64_t& n_missing) {
  const auto n = static_cast<int64_t>(job.matrices.size());
  for (int64_t e = 0; e < n; e++) {
    NW_ASSIGN(std::span<const float> row, imatrix.find(spec.name, e, n, spec.dims[0]));
    if (std::all_of(row.begin(), row.end(), [](float v) { return v == 0; })) row = {};
    if (row.empty()) n_missing++;
    job.importance.push_back(row);
  }
  return ok_status();
}

Status check_mxfp4(const PlannedTensor& t) {
  if (t.job.type != DType::kMXFP4) return ok_status();
  for (const SourceMatrix& m : t.job.matrices)
    if (m.form != SourceMatrix::Form::kFp4)
      return usage(fmt::format(
          "{} as mxfp4: its source {} is {}, and mxfp4 is only repacked from FP4 (I8 with F8_E8M0 "
          "scales) because rounding to it loses more than q4_k; choose q4_k or q8_0",
          t.spec.name, m.name, form_name(m.form)));
  return ok_status();
}

// The releases with a drafter of several stages also have mtp.* tensors, without these norms.
Status check_mtp(const Sources& sources) {
  if (sources.has("mtp.0.enorm.weight")) return ok_status();
  return bad_input(
      "mtp.0.enorm.weight is missing, expected an MTP block of one layer; convert without --mtp");
}

// Finds the source of every tensor and declares it to the writer.
Result<std::vector<PlannedTensor>> plan_tensors(const ConvertOptions& o, const Config& config,
                                                const Imatrix* imatrix, Sources& sources,
                                                gguf::Writer& writer, ConvertReport& report) {
  std::vector<TensorSpec> table = tensor_table(config);
  if (o.mtp) {
    NW_TRY(check_mtp(sources));
    for (TensorSpec& spec : mtp_table(config)) table.push_back(std::move(spec));
  }
  NW_ASSIGN(const std::vector<TypeChoice> types,
            choose_types(table, *preset_by_name(o.type), o.tensor_types));
  std::vector<PlannedTensor> plan;
  std::map<DType, int64_t> counts;
  int64_t n_no_importance = 0;
  for (size_t i = 0; i < table.size(); i++) {
    const TensorSpec& spec = table[i];
    const auto [wanted, type] = types[i];
    PlannedTensor t{spec, {writer.add_tensor(spec.name, type, spec.dims), type, {}, {}}, {}};
    counts[type]++;
    if (spec.role == TensorRole::kHashTable) {
      NW_ASSIGN(t.table, sources.hash_table(spec, config.n_experts));
    } else {
      NW_ASSIGN(t.job.matrices, sources.matrices(spec));
      NW_TRY(check_mxfp4(t));
      if (imatrix && quant::with_q8k(type))
        NW_TRY(find_importance(*imatrix, spec, t.job, n_no_importance));
    }
    if (type != wanted)
      report.fallbacks.push_back({spec.name, wanted, type,
                                  fmt::format("rows of {} are not whole blocks of {}", spec.dims[0],
                                              block_elements(wanted))});
    plan.push_back(std::move(t));
  }
  report.types.assign(counts.begin(), counts.end());
  std::stable_sort(report.types.begin(), report.types.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (n_no_importance > 0)
    report.warnings.push_back(
        fmt::format("{}: no importance for {} matrices; they are quantised without", o.imatrix,
                    n_no_importance));
  return plan;
}

void report_unused(const Sources& sources, std::vector<std::string>& warnings) {
  int64_t n_mtp = 0, n_other = 0;
  std::string first;
  for (const std::string& name : sources.unused()) {
    if (name.starts_with("mtp.")) {
      n_mtp++;
    } else if (n_other++ == 0) {
      first = name;
    }
  }
  if (n_mtp > 0)
    warnings.push_back(
        fmt::format("{} mtp.* tensors are left out; --mtp keeps a block of one layer", n_mtp));
  if (n_other > 0)
    warnings.push_back(fmt::format(
        "{} tensors are not part of the model and are left out, the first is {}", n_other, first));
}

void write_provenance(const ConvertOptions& o, const Imatrix* imatrix, gguf::Writer& writer) {
  writer.add_u32(gguf::names::kGeneralFileType, preset_file_type(*preset_by_name(o.type)));
  writer.add_u32(gguf::names::kGeneralQuantVersion, 2);
  if (o.mtp) {
    writer.add_u32(gguf::names::kMtpLayerCount, 1);
    writer.add_u32(gguf::names::kNextnLayers, 1);
  }
  if (!imatrix) return;
  // The name alone: where the file lay is nobody's business.
  writer.add_string("quantize.imatrix.file", fs::path(o.imatrix).filename().string());
  if (!imatrix->dataset().empty())
    writer.add_string("quantize.imatrix.dataset", imatrix->dataset());
  writer.add_u64("quantize.imatrix.entries_count", static_cast<uint64_t>(imatrix->n_entries()));
  writer.add_u64("quantize.imatrix.chunks_count", static_cast<uint64_t>(imatrix->n_chunks()));
}

Status write_all(const ConvertOptions& o, const std::vector<PlannedTensor>& plan,
                 gguf::Writer& writer) {
  int64_t n_values = 0;
  for (const PlannedTensor& t : plan)
    for (const SourceMatrix& m : t.job.matrices) n_values += m.n_in * m.n_out;
  NW_TRY(writer.begin(o.output));
  ThreadPool pool(o.n_threads > 0 ? o.n_threads : default_thread_count());
  Encoder encoder(pool, writer, n_values);
  for (const PlannedTensor& t : plan) {
    const Status s = t.table.empty() ? encoder.encode(t.job)
                                     : writer.write(t.job.tensor, 0, t.table.data(),
                                                    t.table.size() * sizeof(int32_t));
    NW_TRY(s.within(t.spec.name));
  }
  return writer.finish();
}

}  // namespace

Result<ConvertReport> convert(const ConvertOptions& o) {
  NW_TRY(check_options(o));
  NW_ASSIGN(const Config config, load_config(o));
  NW_ASSIGN(const safetensors::Checkpoint checkpoint, safetensors::Checkpoint::open(o.checkpoint));
  std::optional<Imatrix> imatrix;
  if (!o.imatrix.empty()) {
    NW_ASSIGN(imatrix, Imatrix::open(o.imatrix));
  }
  const Imatrix* const importance = imatrix ? &*imatrix : nullptr;

  ConvertReport report;
  gguf::Writer writer;
  write_config(config, writer);
  write_provenance(o, importance, writer);
  NW_TRY(add_tokenizer(o, config, writer, report.warnings));
  Sources sources(checkpoint);
  NW_ASSIGN(const std::vector<PlannedTensor> plan,
            plan_tensors(o, config, importance, sources, writer, report));
  report_unused(sources, report.warnings);
  NW_TRY(write_all(o, plan, writer));

  report.name = config.name;
  report.prompt_profile = config.prompt_profile;
  report.n_tensors = writer.n_tensors();
  report.n_bytes = writer.file_bytes();
  return report;
}

}  // namespace narwhal
