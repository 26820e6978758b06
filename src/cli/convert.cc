// narwhal convert: a thin wrapper of convert/convert.h.
#include "convert/convert.h"

#include <fmt/format.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/setup.h"

namespace narwhal::cli {
namespace {

Result<std::pair<std::string, DType>> tensor_type(const std::string& text) {
  const size_t equal = text.rfind('=');
  if (equal == text.npos || equal == 0) {
    return usage(fmt::format("--tensor-type is '{}', expected PATTERN=TYPE", text));
  }
  const std::string name = text.substr(equal + 1);
  const auto type = dtype_by_name(name);
  if (!type) {
    return usage(
        fmt::format("--tensor-type {}: unknown type '{}', expected f32, f16, bf16, q8_0, "
                    "q4_k, q2_k, iq2_xxs or mxfp4",
                    text, name));
  }
  return std::pair(text.substr(0, equal), *type);
}

Json report_json(const ConvertReport& report, const std::string& out, double ms) {
  Json j = Json::object();
  j.set("out", Json::of(out));
  j.set("name", Json::of(report.name));
  j.set("prompt_profile", Json::of(report.prompt_profile));
  j.set("tensors", Json::of(report.n_tensors));
  j.set("bytes", Json::of(static_cast<int64_t>(report.n_bytes)));
  Json types = Json::object();
  for (const auto& [type, n] : report.types) types.set(dtype_name(type), Json::of(n));
  j.set("types", std::move(types));
  Json fallbacks = Json::array();
  for (const ConvertFallback& f : report.fallbacks) {
    Json one = Json::object();
    one.set("tensor", Json::of(f.tensor));
    one.set("wanted", Json::of(std::string(dtype_name(f.wanted))));
    one.set("got", Json::of(std::string(dtype_name(f.got))));
    one.set("reason", Json::of(f.reason));
    fallbacks.push(std::move(one));
  }
  j.set("fallbacks", std::move(fallbacks));
  Json warnings = Json::array();
  for (const std::string& w : report.warnings) warnings.push(Json::of(w));
  j.set("warnings", std::move(warnings));
  j.set("ms", Json::of(ms));
  return j;
}

void print_report(const ConvertReport& report, const std::string& out, double ms) {
  for (const std::string& w : report.warnings) fmt::print(stderr, "warning: {}\n", w);
  for (const ConvertFallback& f : report.fallbacks) {
    fmt::print(stderr, "{}: {} instead of {}: {}\n", f.tensor, dtype_name(f.got),
               dtype_name(f.wanted), f.reason);
  }
  std::string types;
  for (const auto& [type, n] : report.types) {
    types += fmt::format("{}{} {}", types.empty() ? "" : ", ", n, dtype_name(type));
  }
  fmt::print("{}: {} tensors ({}), {} in {:.1f} s\n", out, report.n_tensors, types,
             format_bytes(report.n_bytes), ms / 1000);
}

}  // namespace

Status convert(const Args& args) {
  ConvertOptions o;
  o.checkpoint = args.text("CHECKPOINT_DIR");
  if (o.checkpoint.empty()) return usage("no checkpoint; give its folder");
  o.output = args.text("--out");
  if (o.output.empty()) return usage("no output file; give --out FILE");
  o.type = args.text("--type");
  for (const std::string& t : args.list("--tensor-type")) {
    NW_ASSIGN(auto rule, tensor_type(t));
    o.tensor_types.push_back(std::move(rule));
  }
  o.imatrix = args.text("--imatrix");
  o.tokenizer = args.text("--tokenizer");
  o.name = args.text("--name");
  o.mtp = args.flag("--mtp");
  if (args.given("--prompt-profile") && args.text("--prompt-profile") != "auto") {
    o.prompt_profile = args.text("--prompt-profile");
  }
  o.n_threads = static_cast<int>(args.integer("--threads"));
  const Stopwatch watch;
  NW_ASSIGN(const ConvertReport report, narwhal::convert(o));
  if (args.flag("--json")) {
    fmt::print("{}\n", report_json(report, o.output, watch.ms()).dump());
  } else {
    print_report(report, o.output, watch.ms());
  }
  return ok_status();
}

}  // namespace narwhal::cli
