#include <fmt/format.h>

#include "base/json.h"
#include "bench/ops_bench.h"
#include "bench/setting_json.h"

namespace narwhal::bench {
namespace {

std::string time_text(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.2f} us", seconds * 1e6);
  return fmt::format("{:.3f} ms", seconds * 1e3);
}

// Ops that move only activations find them in cache and may be faster than memory.
std::string limit_text(const OpRow& r) {
  if (r.macs == 0 && r.of_limit > 1) return "cache";
  return fmt::format("{:.1f}%", 100 * r.of_limit);
}

}  // namespace

std::string ops_table(const OpsReport& report) {
  std::string out = setting_text(report.setting);
  out += fmt::format("\n{:<10} {:<17} {:<9} {:>5} {:>13} {:>9} {:>9} {:>9}\n", "level", "op",
                     "format", "rows", "time", "GB/s", "Gop/s", "of limit");
  for (const OpRow& r : report.rows)
    out += fmt::format("{:<10} {:<17} {:<9} {:>5} {:>13} {:>9.2f} {:>9} {:>9}\n", r.level, r.op,
                       r.format, r.n, time_text(r.seconds), r.gb_per_s,
                       r.macs > 0 ? fmt::format("{:.1f}", r.gop_per_s) : "-", limit_text(r));
  return out;
}

std::string ops_csv(const OpsReport& report) {
  const Setting& s = report.setting;
  std::string out = csv_line({"date", "commit", "machine", "load", "cores", "threads", "level",
                              "op", "format", "rows", "us", "gbs", "gops", "of_limit", "bytes",
                              "macs", "read_gbs", "vector_gops", "matrix_gops"});
  const auto number = [](double v) { return fmt::format("{:.5g}", v); };
  for (const OpRow& r : report.rows)
    out += csv_line({s.date, s.commit, s.machine.cpu, number(s.machine.load),
                     fmt::to_string(s.machine.n_cores), fmt::to_string(s.n_threads), r.level, r.op,
                     r.format, fmt::to_string(r.n), number(r.seconds * 1e6), number(r.gb_per_s),
                     number(r.gop_per_s), number(r.of_limit), fmt::to_string(r.bytes),
                     fmt::to_string(r.macs), number(s.limits.read.gb_per_s),
                     number(s.limits.vector_gops()),
                     s.limits.matrix_gops() > 0 ? number(s.limits.matrix_gops()) : ""});
  return out;
}

std::string ops_json(const OpsReport& report) {
  Json j = setting_json(report.setting);
  Json list = Json::array();
  for (const OpRow& r : report.rows) {
    Json one = Json::object();
    one.set("level", Json::of(r.level));
    one.set("op", Json::of(r.op));
    one.set("format", Json::of(r.format));
    one.set("rows", Json::of(int64_t{r.n}));
    one.set("us", Json::of(r.seconds * 1e6));
    one.set("gb_per_s", Json::of(r.gb_per_s));
    one.set("gop_per_s", Json::of(r.gop_per_s));
    one.set("of_limit", Json::of(r.of_limit));
    one.set("bytes", Json::of(r.bytes));
    one.set("macs", Json::of(r.macs));
    list.push(std::move(one));
  }
  j.set("ops", std::move(list));
  return j.dump() + "\n";
}

}  // namespace narwhal::bench
