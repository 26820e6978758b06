#include "bench/setting_json.h"

namespace narwhal::bench {

Json setting_json(const Setting& s) {
  Json machine = Json::object();
  machine.set("cpu", Json::of(s.machine.cpu));
  machine.set("cores", Json::of(int64_t{s.machine.n_cores}));
  machine.set("hardware_threads", Json::of(int64_t{s.machine.n_threads}));
  machine.set("memory_bytes", Json::of(static_cast<int64_t>(s.machine.memory)));
  machine.set("l3_bytes", Json::of(static_cast<int64_t>(s.machine.l3_bytes)));
  machine.set("load", Json::of(s.machine.load));
  machine.set("system", Json::of(s.machine.system));
  Json build = Json::object();
  build.set("version", Json::of(s.version));
  build.set("commit", Json::of(s.commit));
  build.set("compiler", Json::of(std::string(build_compiler())));
  Json peaks = Json::array();
  for (const IntegerPeak& p : s.limits.peaks) {
    Json one = Json::object();
    one.set("level", Json::of(p.level));
    one.set("matrix_unit", Json::of(p.is_matrix));
    one.set("gop_per_s", Json::of(p.gops));
    peaks.push(std::move(one));
  }
  Json limits = Json::object();
  limits.set("threads", Json::of(int64_t{s.limits.n_threads}));
  limits.set("read_gb_per_s", Json::of(s.limits.read.gb_per_s));
  limits.set("read_bytes", Json::of(static_cast<int64_t>(s.limits.read.n_bytes)));
  limits.set("read_is_device_copy", Json::of(s.limits.read.is_device));
  limits.set("read_bytes_reduced", Json::of(s.limits.read.reduced));
  limits.set("bus_gb_per_s", s.limits.bus_gb_per_s > 0 ? Json::of(s.limits.bus_gb_per_s) : Json());
  limits.set("integer_peaks", std::move(peaks));
  Json j = Json::object();
  j.set("date", Json::of(s.date));
  j.set("machine", std::move(machine));
  j.set("build", std::move(build));
  j.set("backend", Json::of(s.backend));
  j.set("level", Json::of(s.level));
  j.set("threads", Json::of(int64_t{s.n_threads}));
  j.set("energy", Json::of(s.has_meter ? "RAPL" : "not available"));
  j.set("limits", std::move(limits));
  return j;
}

}  // namespace narwhal::bench
