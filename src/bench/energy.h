// Energy that the processor packages have used, as the kernel counts it (RAPL under
// /sys/class/powercap; Intel and AMD). Readable by root on most systems.
//
//   auto meter = EnergyMeter::open();              // absent where nothing can be read
//   const double before = meter->joules();
//   ...
//   const double used = meter->joules() - before;
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace narwhal::bench {

class EnergyMeter {
 public:
  // Every top-level package zone under `root`; nothing when there is none or one is unreadable.
  static std::optional<EnergyMeter> open(const std::string& root = "/sys/class/powercap");

  // Joules since open(), over all packages. Counters wrap after some minutes under load: call more
  // often than that.
  double joules();

  int n_packages() const { return static_cast<int>(zones_.size()); }

 private:
  struct Zone {
    std::string path;
    uint64_t range = 0;  // the counter wraps past this value; 0 = unknown
    uint64_t last = 0;
  };
  std::vector<Zone> zones_;
  double microjoules_ = 0;
};

}  // namespace narwhal::bench
