// narwhal synth: a thin wrapper of synth/synth.h.
#include "synth/synth.h"

#include <fmt/format.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/setup.h"

namespace narwhal::cli {
namespace {

Result<std::vector<int>> parse_ratios(const std::string& text) {
  std::vector<int> ratios;
  if (text.empty()) return ratios;
  NW_ASSIGN(const auto values, parse_ids(text, 1 << 20));
  ratios.assign(values.begin(), values.end());
  return ratios;
}

Result<SynthOptions> synth_options(const Args& args) {
  SynthOptions o;
  o.out = args.text("--out");
  o.dry_run = args.flag("--dry-run");
  if (o.out.empty() && !o.dry_run) return usage("no output file; give --out FILE or --dry-run");
  o.shape = args.text("--shape");
  for (const SynthDimension& d : synth_dimensions()) {
    const std::string name = fmt::format("--{}", d.name);
    if (args.given(name)) o.dimensions[d.name] = static_cast<int>(args.integer(name));
  }
  auto ratios = parse_ratios(args.text("--ratios"));
  if (!ratios.ok()) return usage("--ratios: " + ratios.status().message());
  o.ratios = *ratios;
  o.quant = args.text("--quant");
  o.flavor = args.text("--flavor");
  o.tokenizer_json = args.text("--tokenizer-json");
  o.mtp = args.flag("--mtp");
  o.alias_experts = static_cast<int>(args.integer("--alias-experts"));
  o.sparse = args.text("--sparse");
  if (args.given("--seed")) o.seed = static_cast<uint64_t>(args.integer("--seed"));
  o.threads = static_cast<int>(args.integer("--threads"));
  o.alignment = static_cast<uint64_t>(args.integer("--alignment"));
  o.memory_floor_mib = static_cast<uint64_t>(args.integer("--memory-floor-mib"));
  o.ignore_space = args.flag("--ignore-space");
  return o;
}

Json report_json(const SynthReport& r, const std::string& out, bool list) {
  Json j = Json::object();
  j.set("out", Json::of(out));
  j.set("tensors", Json::of(static_cast<int64_t>(r.tensors.size())));
  j.set("parameters", Json::of(r.n_elements));
  j.set("file_bytes", Json::of(static_cast<int64_t>(r.file_bytes)));
  j.set("written_bytes", Json::of(static_cast<int64_t>(r.written_bytes)));
  j.set("seconds", Json::of(r.seconds));
  j.set("threads", Json::of(static_cast<int64_t>(r.threads)));
  if (!list) return j;
  Json tensors = Json::array();
  for (const SynthTensor& t : r.tensors) {
    Json one = Json::object();
    one.set("name", Json::of(t.name));
    one.set("type", Json::of(std::string(dtype_name(t.type))));
    Json dims = Json::array();
    for (int64_t d : t.dims) dims.push(Json::of(d));
    one.set("dims", std::move(dims));
    one.set("offset", Json::of(static_cast<int64_t>(t.offset)));
    one.set("bytes", Json::of(static_cast<int64_t>(t.n_bytes)));
    one.set("shared", Json::of(t.shared));
    tensors.push(std::move(one));
  }
  j.set("tensor_list", std::move(tensors));
  return j;
}

}  // namespace

Status synth(const Args& args) {
  NW_ASSIGN(const SynthOptions options, synth_options(args));
  NW_ASSIGN(const SynthReport r, narwhal::synth(options));
  const bool list = args.flag("--list");
  if (args.flag("--json")) {
    fmt::print("{}\n", report_json(r, options.out, list).dump());
    return ok_status();
  }
  if (list) {
    for (const SynthTensor& t : r.tensors) {
      fmt::print("{:<40} {:<8} [{}] {} at {}{}\n", t.name, dtype_name(t.type),
                 fmt::join(t.dims, ", "), format_bytes(t.n_bytes), t.offset,
                 t.shared ? " (shared)" : "");
    }
  }
  fmt::print("{}: {} tensors, {:.2f} B parameters, {}, {} written in {:.1f} s by {} threads\n",
             options.dry_run ? "dry run" : options.out, r.tensors.size(),
             double(r.n_elements) / 1e9, format_bytes(r.file_bytes), format_bytes(r.written_bytes),
             r.seconds, r.threads);
  return ok_status();
}

}  // namespace narwhal::cli
