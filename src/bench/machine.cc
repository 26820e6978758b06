#include "bench/machine.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <thread>

#ifdef __APPLE__
#include <sys/sysctl.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif

#include "base/threads.h"

namespace narwhal::bench {
namespace {

std::string read_all(const char* path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string_view trimmed(std::string_view s) {
  constexpr std::string_view kBlank = " \t\r\n";
  const size_t begin = s.find_first_not_of(kBlank);
  if (begin == s.npos) return {};
  return s.substr(begin, s.find_last_not_of(kBlank) - begin + 1);
}

int usable_threads() {
#ifdef __linux__
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

std::string system_cpu() {
#ifdef __APPLE__
  char name[256] = {};
  size_t n = sizeof name - 1;
  if (sysctlbyname("machdep.cpu.brand_string", name, &n, nullptr, 0) == 0) return name;
#endif
  return cpu_name(read_all("/proc/cpuinfo"));
}

}  // namespace

std::string cpu_name(std::string_view cpuinfo) {
  for (const std::string_view key : {"model name", "Processor", "cpu model"}) {
    for (size_t at = 0; at < cpuinfo.size();) {
      const size_t end = std::min(cpuinfo.find('\n', at), cpuinfo.size());
      const std::string_view line = cpuinfo.substr(at, end - at);
      const size_t colon = line.find(':');
      if (colon != line.npos && trimmed(line.substr(0, colon)) == key)
        return std::string(trimmed(line.substr(colon + 1)));
      at = end + 1;
    }
  }
  return {};
}

uint64_t parse_cache_size(std::string_view text) {
  text = trimmed(text);
  uint64_t value = 0;
  size_t at = 0;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9')
    value = value * 10 + static_cast<uint64_t>(text[at++] - '0');
  if (at == 0) return 0;
  const std::string_view unit = text.substr(at);
  if (unit.empty()) return value;
  if (unit == "K") return value << 10;
  if (unit == "M") return value << 20;
  if (unit == "G") return value << 30;
  return 0;
}

Machine this_machine() {
  Machine m;
  utsname u{};
  uname(&u);
  m.system = std::string(u.sysname) + " " + u.release + " " + u.machine;
  m.cpu = system_cpu();
  if (m.cpu.empty()) m.cpu = u.machine;
  double load[1] = {};
  if (getloadavg(load, 1) == 1) m.load = load[0];
  m.n_cores = default_thread_count();
  m.n_threads = usable_threads();
  m.memory = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
             static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
  m.l3_bytes = parse_cache_size(read_all("/sys/devices/system/cpu/cpu0/cache/index3/size"));
  return m;
}

std::optional<MemoryUse> parse_memory_use(std::string_view status) {
  const auto field = [&](std::string_view key) -> std::optional<uint64_t> {
    const size_t at = status.find(key);
    if (at == status.npos) return std::nullopt;
    std::string_view value = status.substr(at + key.size());
    value = trimmed(value.substr(0, value.find(" kB")));
    return parse_cache_size(std::string(value) + "K");
  };
  const auto anonymous = field("RssAnon:"), file = field("RssFile:"), shared = field("RssShmem:");
  if (!anonymous || !file || !shared) return std::nullopt;
  return MemoryUse{*anonymous, *file + *shared};
}

std::optional<MemoryUse> memory_use() { return parse_memory_use(read_all("/proc/self/status")); }

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

}  // namespace narwhal::bench
