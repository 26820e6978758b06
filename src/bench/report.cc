#include "bench/report.h"

#include <fmt/format.h>

#include "base/json.h"
#include "bench/setting_json.h"
#include "bench/traffic.h"

namespace narwhal::bench {
namespace {

Json spread_json(const Spread& s) {
  Json j = Json::object();
  j.set("median", Json::of(s.median));
  j.set("min", Json::of(s.min));
  j.set("max", Json::of(s.max));
  return j;
}

Json frontier_json(const Frontier& f, const Setting& s) {
  const Limits& limits = s.limits;
  Json prefill = Json::object();
  prefill.set("tokens", Json::of(f.point.interval()));
  prefill.set("tokens_per_s", spread_json(f.point.prefill_tps));
  prefill.set("gop_per_token", Json::of(f.prefill_gop));
  prefill.set("gop_per_s", Json::of(prefill_gops(f)));
  prefill.set("of_vector_peak", Json::of(prefill_of_vector(f, limits)));
  prefill.set("of_matrix_peak",
              limits.matrix_gops() > 0 ? Json::of(prefill_of_matrix(f, limits)) : Json());
  prefill.set("joules_per_token", s.has_meter ? spread_json(f.point.prefill_joules) : Json());
  Json decode = Json::object();
  decode.set("tokens", Json::of(int64_t{f.point.n_decode}));
  decode.set("tokens_per_s", spread_json(f.point.decode_tps));
  decode.set("weight_bytes", Json::of(f.weight_bytes));
  decode.set("kv_bytes", Json::of(f.kv_bytes));
  decode.set("gb_per_s", Json::of(decode_gb_per_s(f)));
  decode.set("of_read_bandwidth", Json::of(decode_of_read(f, limits)));
  decode.set("joules_per_token", s.has_meter ? spread_json(f.point.decode_joules) : Json());
  Json j = Json::object();
  j.set("ctx", Json::of(f.point.ctx));
  j.set("prefill", std::move(prefill));
  j.set("decode", std::move(decode));
  return j;
}

std::string range(const Spread& s) { return fmt::format("{:.4g}-{:.4g}", s.min, s.max); }

double mib(uint64_t n) { return static_cast<double>(n) / (1 << 20); }

std::string percent(double x) { return x > 0 ? fmt::format("{:.1f}%", 100 * x) : "-"; }

}  // namespace

double decode_gb_per_s(const Frontier& f) {
  return static_cast<double>(f.weight_bytes + f.kv_bytes) * f.point.decode_tps.median * 1e-9;
}
double decode_of_read(const Frontier& f, const Limits& limits) {
  return fraction(decode_gb_per_s(f), limits.read.gb_per_s);
}
double load_gb_per_s(const Report& r) {
  return fraction(static_cast<double>(r.load.bytes) * 1e-9, r.load.seconds);
}
double load_of_bus(const Report& r) {
  return fraction(load_gb_per_s(r), r.setting.limits.bus_gb_per_s);
}
double prefill_gops(const Frontier& f) { return f.prefill_gop * f.point.prefill_tps.median; }
double prefill_of_vector(const Frontier& f, const Limits& limits) {
  return fraction(prefill_gops(f), limits.vector_gops());
}
double prefill_of_matrix(const Frontier& f, const Limits& limits) {
  return fraction(prefill_gops(f), limits.matrix_gops());
}

std::string setting_text(const Setting& s) {
  constexpr double kGiB = double(1 << 30);
  std::string out = fmt::format(
      "machine   {}, {} cores, {} hardware threads, {:.1f} GiB memory, {}\n"
      "build     narwhal {}, commit {}, {}\n"
      "backend   {}, {} threads, kernels: {}\n",
      s.machine.cpu, s.machine.n_cores, s.machine.n_threads,
      static_cast<double>(s.machine.memory) / kGiB, s.machine.system, s.version, s.commit,
      build_compiler(), s.backend, s.n_threads, s.level);
  if (s.limits.read.is_device)
    return out + fmt::format("memory    {:.0f} GB/s of the device, copies, read and written\n",
                             s.limits.read.gb_per_s);
  if (s.limits.read.n_bytes == 0) return out + "limits    not measured\n";
  out += fmt::format("reads     {:.1f} GB/s, sum over {:.2f} GiB by all threads{}\n",
                     s.limits.read.gb_per_s, static_cast<double>(s.limits.read.n_bytes) / kGiB,
                     s.limits.read.reduced ? " (less than 4 GiB: memory did not allow it)" : "");
  if (s.machine.load > 0.3 * s.machine.n_cores)
    out += fmt::format("warning   the machine is busy (load {:.1f}): figures will be low\n",
                       s.machine.load);
  out += "integers  ";
  for (const IntegerPeak& p : s.limits.peaks)
    out +=
        fmt::format("{}{} {:.0f} Gop/s", &p == s.limits.peaks.data() ? "" : ", ", p.level, p.gops);
  if (s.limits.peaks.empty()) out += "no loop for this processor";
  out += s.has_meter ? "\nenergy    RAPL, all packages\n"
                     : "\nenergy    not available (no readable RAPL counter)\n";
  return out;
}

std::string plan_text(const MemoryPlan& p) {
  return fmt::format(
      "plan: {:.0f} MiB of weights and {:.0f} MiB beside them for {} session{} of {} tokens; up to "
      "{:.0f} MiB more for frontiers kept to go back to, {:.0f} MiB to score texts; {:.0f} MiB "
      "are available",
      mib(p.weights_bytes), mib(p.run_bytes()), p.n_sessions, p.n_sessions == 1 ? "" : "s", p.n_ctx,
      mib(static_cast<uint64_t>(p.n_sessions) * p.kept_bytes), mib(p.scoring_bytes),
      mib(p.available_bytes));
}

std::string load_text(const Report& r) {
  if (r.load.bytes == 0) return {};
  std::string out =
      fmt::format("load      {:.2f} GB of weights in {:.2f} s, {:.1f} GB/s",
                  static_cast<double>(r.load.bytes) * 1e-9, r.load.seconds, load_gb_per_s(r));
  if (const double bus = r.setting.limits.bus_gb_per_s; bus > 0)
    out += fmt::format(", {} of the bus ({:.1f} GB/s)", percent(load_of_bus(r)), bus);
  return out + "\n";
}

std::string report_table(const Report& r) {
  std::string out = setting_text(r.setting);
  out += fmt::format(
      "model     {} ({}, {:.2f} GiB), opened in {:.0f} ms\n"
      "{}walk      {}; {} walk{}, medians (range)\n\n",
      r.model, r.path, static_cast<double>(r.model_bytes) / (1 << 30), r.open_seconds * 1e3,
      load_text(r), r.prompt, r.repeat, r.repeat == 1 ? "" : "s");
  if (r.memory) {
    out.insert(
        out.size() - 1,
        fmt::format("memory    {:.0f} MiB planned beside the weights (at most {:.0f}), {:.0f} MiB "
                    "used, {:.0f} MiB taken by the process; {:.0f} MiB of mapped pages\n",
                    mib(r.planned_bytes), mib(r.most_bytes), mib(r.used_bytes),
                    mib(r.memory->anonymous), mib(r.memory->mapped)));
  }
  const bool matrix = r.setting.limits.matrix_gops() > 0;
  out += fmt::format("{:>9}  {:>9} {:>19} {:>8} {:>8}{}  {:>9} {:>19} {:>9} {:>8} {:>8}\n",
                     "context", "prefill/s", "range", "Gop/s", "of peak", matrix ? "   of AMX" : "",
                     "decode/s", "range", "MB/token", "GB/s", "of reads");
  for (const Frontier& f : r.frontiers) {
    const Limits& l = r.setting.limits;
    out += fmt::format(
        "{:>9}  {:>9.4g} {:>19} {:>8.1f} {:>8}{}  {:>9.4g} {:>19} {:>9.1f} {:>8.2f} {:>8}\n",
        f.point.ctx, f.point.prefill_tps.median, range(f.point.prefill_tps), prefill_gops(f),
        percent(prefill_of_vector(f, l)),
        matrix ? fmt::format(" {:>8}", percent(prefill_of_matrix(f, l))) : "",
        f.point.decode_tps.median, range(f.point.decode_tps),
        static_cast<double>(f.weight_bytes + f.kv_bytes) * 1e-6, decode_gb_per_s(f),
        percent(decode_of_read(f, l)));
    if (r.setting.has_meter)
      out += fmt::format("{:>9}  {:.3g} J per prompt token, {:.3g} J per decoded token\n", "",
                         f.point.prefill_joules.median, f.point.decode_joules.median);
  }
  return out;
}

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (const std::string& f : fields) {
    if (&f != fields.data()) line += ',';
    if (f.find_first_of(",\"\r\n") == f.npos) {
      line += f;
      continue;
    }
    line += '"';
    for (const char c : f) {
      if (c == '"') line += '"';
      line += c;
    }
    line += '"';
  }
  return line + "\n";
}

namespace {

// One line of the table by column names.
std::vector<std::pair<const char*, std::string>> columns(const Report& r, const Frontier& f) {
  const Setting& s = r.setting;
  const Limits& l = s.limits;
  const bool matrix = l.matrix_gops() > 0, loaded = r.load.bytes > 0;
  const auto number = [](double v) { return fmt::format("{:.5g}", v); };
  const auto joules = [&](double v) { return s.has_meter ? number(v) : std::string(); };
  return {
      {"date", s.date},
      {"commit", s.commit},
      {"machine", s.machine.cpu},
      {"cores", fmt::to_string(s.machine.n_cores)},
      {"memory_gib", number(static_cast<double>(s.machine.memory) / (1 << 30))},
      {"load", number(s.machine.load)},
      {"backend", s.backend},
      {"level", s.level},
      {"threads", fmt::to_string(s.n_threads)},
      {"model", r.model},
      {"model_bytes", fmt::to_string(r.model_bytes)},
      {"ctx", fmt::to_string(f.point.ctx)},
      {"prefill_tokens", fmt::to_string(f.point.interval())},
      {"prefill_tps", number(f.point.prefill_tps.median)},
      {"prefill_min", number(f.point.prefill_tps.min)},
      {"prefill_max", number(f.point.prefill_tps.max)},
      {"prefill_gops", number(prefill_gops(f))},
      {"of_vector_peak", number(prefill_of_vector(f, l))},
      {"of_matrix_peak", matrix ? number(prefill_of_matrix(f, l)) : ""},
      {"decode_tps", number(f.point.decode_tps.median)},
      {"decode_min", number(f.point.decode_tps.min)},
      {"decode_max", number(f.point.decode_tps.max)},
      {"bytes_per_token", fmt::to_string(f.weight_bytes + f.kv_bytes)},
      {"decode_gbs", number(decode_gb_per_s(f))},
      {"of_read", number(decode_of_read(f, l))},
      {"read_gbs", number(l.read.gb_per_s)},
      {"vector_gops", number(l.vector_gops())},
      {"matrix_gops", matrix ? number(l.matrix_gops()) : ""},
      {"prefill_joules", joules(f.point.prefill_joules.median)},
      {"decode_joules", joules(f.point.decode_joules.median)},
      {"repeat", fmt::to_string(r.repeat)},
      {"planned_bytes", fmt::to_string(r.planned_bytes)},
      {"used_bytes", fmt::to_string(r.used_bytes)},
      {"anonymous_bytes", r.memory ? fmt::to_string(r.memory->anonymous) : ""},
      {"mapped_bytes", r.memory ? fmt::to_string(r.memory->mapped) : ""},
      {"load_bytes", loaded ? fmt::to_string(r.load.bytes) : ""},
      {"load_seconds", loaded ? number(r.load.seconds) : ""},
      {"load_gbs", loaded ? number(load_gb_per_s(r)) : ""},
      {"bus_gbs", l.bus_gb_per_s > 0 ? number(l.bus_gb_per_s) : ""},
      {"of_bus", loaded && l.bus_gb_per_s > 0 ? number(load_of_bus(r)) : ""},
  };
}

}  // namespace

std::string report_csv(const Report& r) {
  std::string out;
  for (const Frontier& f : r.frontiers) {
    std::vector<std::string> names, values;
    for (auto& [name, value] : columns(r, f)) {
      names.emplace_back(name);
      values.push_back(std::move(value));
    }
    if (out.empty()) out = csv_line(names);
    out += csv_line(values);
  }
  return out;
}

std::string report_json(const Report& r) {
  Json j = setting_json(r.setting);
  Json model = Json::object();
  model.set("name", Json::of(r.model));
  model.set("path", Json::of(r.path));
  model.set("bytes", Json::of(static_cast<int64_t>(r.model_bytes)));
  model.set("types", Json::of(r.types));
  model.set("open_ms", Json::of(r.open_seconds * 1e3));
  j.set("model", std::move(model));
  if (r.load.bytes > 0) {
    Json load = Json::object();
    load.set("bytes", Json::of(static_cast<int64_t>(r.load.bytes)));
    load.set("seconds", Json::of(r.load.seconds));
    load.set("gb_per_s", Json::of(load_gb_per_s(r)));
    load.set("of_bus", r.setting.limits.bus_gb_per_s > 0 ? Json::of(load_of_bus(r)) : Json());
    j.set("load", std::move(load));
  }
  if (r.memory) {
    Json memory = Json::object();
    memory.set("planned", Json::of(static_cast<int64_t>(r.planned_bytes)));
    memory.set("at_most", Json::of(static_cast<int64_t>(r.most_bytes)));
    memory.set("used", Json::of(static_cast<int64_t>(r.used_bytes)));
    memory.set("anonymous", Json::of(static_cast<int64_t>(r.memory->anonymous)));
    memory.set("mapped", Json::of(static_cast<int64_t>(r.memory->mapped)));
    j.set("memory_bytes", std::move(memory));
  }
  j.set("prompt", Json::of(r.prompt));
  j.set("chunk", Json::of(int64_t{r.chunk}));
  j.set("repeat", Json::of(int64_t{r.repeat}));
  j.set("warmup", Json::of(int64_t{r.warmup}));
  Json list = Json::array();
  for (const Frontier& f : r.frontiers) list.push(frontier_json(f, r.setting));
  j.set("frontiers", std::move(list));
  return j.dump() + "\n";
}

}  // namespace narwhal::bench
