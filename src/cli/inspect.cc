// narwhal inspect: the model card, the tensors and the memory plan, from the header alone.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/setup.h"

namespace narwhal::cli {
namespace {

struct Group {
  std::string name;
  std::string shape, types;  // of the first; "various" when they differ
  int64_t n_tensors = 0, n_elements = 0;
  uint64_t n_bytes = 0;
};

std::string shape_of(const gguf::Tensor& t) {
  return fmt::format("{}", fmt::join(t.dims.begin(), t.dims.begin() + t.n_dims, " x "));
}

// "blk.17.attn_kv.weight" -> "blk.*.attn_kv.weight": the same tensor of all layers.
std::string group_name(std::string_view name) {
  std::string out;
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find('.', at), name.size());
    const std::string_view part = name.substr(at, end - at);
    const bool is_number =
        !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
    if (at > 0) out += '.';
    out += is_number ? "*" : part;
    at = end + 1;
  }
  return out;
}

std::vector<Group> group_tensors(const gguf::File& file) {
  std::vector<Group> groups;
  std::map<std::string, size_t> index;
  for (const gguf::Tensor& t : file.tensors()) {
    const std::string name = group_name(t.name);
    const auto [it, added] = index.emplace(name, groups.size());
    if (added) groups.push_back({name, shape_of(t), std::string(dtype_name(t.type)), 0, 0, 0});
    Group& g = groups[it->second];
    if (g.shape != shape_of(t)) g.shape = "various";
    if (g.types.find(dtype_name(t.type)) == std::string::npos) {
      g.types += fmt::format(" {}", dtype_name(t.type));
    }
    g.n_tensors++;
    g.n_elements += t.n_elements();
    g.n_bytes += t.n_bytes;
  }
  return groups;
}

void print_tensors(const gguf::File& file, bool all) {
  fmt::print("\nTensors\n");
  if (all) {
    for (const gguf::Tensor& t : file.tensors()) {
      fmt::print("  {:<40} {:<8} {:<22} {:>12}\n", t.name, dtype_name(t.type), shape_of(t),
                 format_bytes(t.n_bytes));
    }
    return;
  }
  for (const Group& g : group_tensors(file)) {
    fmt::print("  {:>4} x {:<36} {:<16} {:<20} {:>12}\n", g.n_tensors, g.name, g.types, g.shape,
               format_bytes(g.n_bytes));
  }
}

void print_plan(const MemoryPlan& p) {
  const auto row = [](std::string_view label, uint64_t bytes, std::string_view note) {
    fmt::print("  {:<22} {:>12}  {}\n", label, format_bytes(bytes), note);
  };
  fmt::print("\nMemory plan for {} session{} of {} tokens\n", p.n_sessions,
             p.n_sessions == 1 ? "" : "s", p.n_ctx);
  row("weights", p.weights_bytes, "mapped from the file");
  if (p.host_weights_bytes > 0)
    row("of them on the host", p.host_weights_bytes, "experts, read by the GPU over its bus");
  row("cache, per session", p.kv_session_bytes, "compressed rows");
  row("frontier, per session", p.frontier_bytes, "window and compressor state");
  row("workspace", p.workspace_bytes, "activations of one chunk");
  row("up to, per session", p.kept_bytes, "earlier frontiers, kept to go back to");
  row("up to", p.scoring_bytes, "logits of many tokens, to score texts");
  row("total", p.total_bytes, p.fits() ? "fits" : "does not fit");
  row("available", p.available_bytes, "on this machine");
}

Json tensors_json(const gguf::File& file, bool all) {
  Json list = Json::array();
  const auto add = [&](const std::string& name, std::string_view type, const std::string& shape,
                       int64_t n_elements, uint64_t n_bytes, int64_t count) {
    Json j = Json::object();
    j.set("name", Json::of(name));
    j.set("type", Json::of(std::string(type)));
    j.set("shape", Json::of(shape));
    j.set("elements", Json::of(n_elements));
    j.set("bytes", Json::of(static_cast<int64_t>(n_bytes)));
    if (!all) j.set("count", Json::of(count));
    list.push(std::move(j));
  };
  if (all) {
    for (const gguf::Tensor& t : file.tensors()) {
      add(t.name, dtype_name(t.type), shape_of(t), t.n_elements(), t.n_bytes, 1);
    }
  } else {
    for (const Group& g : group_tensors(file)) {
      add(g.name, g.types, g.shape, g.n_elements, g.n_bytes, g.n_tensors);
    }
  }
  return list;
}

Json plan_json(const MemoryPlan& p) {
  const auto bytes = [](uint64_t n) { return Json::of(static_cast<int64_t>(n)); };
  Json j = Json::object();
  j.set("ctx", Json::of(p.n_ctx));
  j.set("sessions", Json::of(static_cast<int64_t>(p.n_sessions)));
  j.set("weights_bytes", bytes(p.weights_bytes));
  j.set("host_weights_bytes", bytes(p.host_weights_bytes));
  j.set("kv_session_bytes", bytes(p.kv_session_bytes));
  j.set("frontier_bytes", bytes(p.frontier_bytes));
  j.set("workspace_bytes", bytes(p.workspace_bytes));
  j.set("kept_bytes", bytes(p.kept_bytes));
  j.set("scoring_bytes", bytes(p.scoring_bytes));
  j.set("total_bytes", bytes(p.total_bytes));
  j.set("available_bytes", bytes(p.available_bytes));
  j.set("fits", Json::of(p.fits()));
  return j;
}

Json info_json(const ModelInfo& info) {
  Json j = Json::object();
  j.set("name", Json::of(info.name));
  j.set("path", Json::of(info.path));
  j.set("prompt_profile", Json::of(info.prompt_profile));
  j.set("parameters", Json::of(info.n_params));
  j.set("tensors", Json::of(info.n_tensors));
  j.set("file_bytes", Json::of(static_cast<int64_t>(info.file_bytes)));
  j.set("tensor_bytes", Json::of(static_cast<int64_t>(info.tensor_bytes)));
  j.set("vocab", Json::of(info.n_vocab));
  j.set("max_ctx", Json::of(info.max_ctx));
  Json card = Json::object();
  for (const auto& [label, value] : info.card) card.set(label, Json::of(value));
  j.set("card", std::move(card));
  return j;
}

}  // namespace

Status inspect(const Args& args) {
  NW_ASSIGN(EngineOptions options, engine_options(args));
  const int64_t n_sessions = args.integer("--sessions");
  if (n_sessions < 1 || n_sessions > 1 << 20) {
    return usage(fmt::format("--sessions is {}, expected 1 to {}", n_sessions, 1 << 20));
  }
  options.n_sessions = static_cast<int>(n_sessions);
  NW_ASSIGN(const auto found, Engine::inspect(options));
  NW_ASSIGN(const gguf::File file, open_model_file(options.model));
  const auto& [info, plan] = found;
  const bool all = args.flag("--tensors");
  if (args.flag("--json")) {
    Json j = info_json(info);
    j.set(all ? "tensor_list" : "tensor_groups", tensors_json(file, all));
    j.set("memory_plan", plan_json(plan));
    fmt::print("{}\n", j.dump());
    return ok_status();
  }
  fmt::print("{}\n", info.name);
  const auto row = [](std::string_view label, const std::string& value) {
    fmt::print("  {:<22} {}\n", label, value);
  };
  row("file", fmt::format("{}, {}", info.path, format_bytes(info.file_bytes)));
  row("parameters", fmt::format("{:.2f} {} in {} tensors, {}",
                                double(info.n_params) / (info.n_params < 1000000000 ? 1e6 : 1e9),
                                info.n_params < 1000000000 ? "M" : "B", info.n_tensors,
                                format_bytes(info.tensor_bytes)));
  for (const auto& [label, value] : info.card) row(label, value);
  print_tensors(file, all);
  print_plan(plan);
  return ok_status();
}

}  // namespace narwhal::cli
