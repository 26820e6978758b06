#include "bench/energy.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace narwhal::bench {
namespace {

namespace fs = std::filesystem;

std::optional<uint64_t> read_number(const std::string& path) {
  std::ifstream in(path);
  uint64_t value = 0;
  if (!(in >> value)) return std::nullopt;
  return value;
}

// "intel-rapl:0" holds "name" = package-0; its parts (core, dram) are "intel-rapl:0:0" and would
// count twice, as would "psys", the whole platform.
bool is_package(const fs::path& zone) {
  const std::string name = zone.filename().string();
  if (std::count(name.begin(), name.end(), ':') != 1 || !name.starts_with("intel-rapl:"))
    return false;
  std::ifstream in(zone / "name");
  std::string label;
  return in >> label && label.starts_with("package");
}

}  // namespace

std::optional<EnergyMeter> EnergyMeter::open(const std::string& root) {
  EnergyMeter meter;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root, error)) {
    if (!is_package(entry.path())) continue;
    Zone zone;
    zone.path = (entry.path() / "energy_uj").string();
    const auto now = read_number(zone.path);
    if (!now) return std::nullopt;  // a sum over some packages would mislead
    zone.last = *now;
    zone.range = read_number((entry.path() / "max_energy_range_uj").string()).value_or(0);
    meter.zones_.push_back(std::move(zone));
  }
  if (error || meter.zones_.empty()) return std::nullopt;
  return meter;
}

double EnergyMeter::joules() {
  for (Zone& zone : zones_) {
    const auto now = read_number(zone.path);
    if (!now) continue;
    const bool wrapped = *now < zone.last;
    if (!wrapped || zone.range > 0)
      microjoules_ +=
          static_cast<double>(wrapped ? zone.range - zone.last + *now : *now - zone.last);
    zone.last = *now;
  }
  return microjoules_ * 1e-6;
}

}  // namespace narwhal::bench
