#include "base/topology.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <map>

#ifdef __linux__
#include <sched.h>
#endif

namespace narwhal {
namespace {

constexpr int kMaxCpus = 1 << 16;  // a list with more is no list

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::vector<int> read_list(const std::string& path) {
  return parse_cpu_list(first_line(path)).value_or(std::vector<int>());
}

// A number at the front of `text`, which is then cut off.
std::optional<int> take_number(std::string_view& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < 0 || value >= kMaxCpus) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

bool take(std::string_view& text, char c) {
  if (text.empty() || text[0] != c) return false;
  text.remove_prefix(1);
  return true;
}

// Processors by node; several lists may name one processor only by mistake, the first then counts.
std::map<int, int> read_nodes(const std::string& folder) {
  std::map<int, int> node_of;
  for (const int node : read_list(folder + "/online"))
    for (const int cpu : read_list(fmt::format("{}/node{}/cpulist", folder, node)))
      node_of.emplace(cpu, node);
  return node_of;
}

// "max 100000" or "150000 100000": microseconds of a period.
std::optional<double> read_quota(const std::string& path) {
  std::ifstream in(path);
  double quota = 0, period = 0;
  if (in >> quota >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

// Cores of a node: the usable processors of each, cores and processors ascending.
using Core = std::vector<int>;
std::map<int, std::vector<Core>> cores_by_node(std::span<const Cpu> usable) {
  std::map<std::pair<int, int>, Core> cores;  // (node, core)
  for (const Cpu& c : usable) cores[{c.node, c.core}].push_back(c.id);
  std::map<int, std::vector<Core>> nodes;
  for (auto& [key, cpus] : cores) nodes[key.first].push_back(std::move(cpus));
  return nodes;
}

int within(std::optional<double> quota, size_t n) {
  if (quota && n > 0) n = std::min(n, std::max<size_t>(1, static_cast<size_t>(*quota)));
  return static_cast<int>(n);
}

}  // namespace

std::optional<std::vector<int>> parse_cpu_list(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  std::vector<int> cpus;
  while (!text.empty()) {
    const auto first = take_number(text);
    auto last = first;
    if (first && take(text, '-')) last = take_number(text);
    if (!first || !last || *last < *first) return std::nullopt;
    for (int cpu = *first; cpu <= *last; cpu++) cpus.push_back(cpu);
    if (!text.empty() && (!take(text, ',') || text.empty())) return std::nullopt;
  }
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpus;
}

std::vector<Cpu> read_cpus(const std::string& root) {
  const std::string system = root + "/sys/devices/system";
  const std::map<int, int> node_of = read_nodes(system + "/node");
  std::vector<Cpu> cpus;
  for (const int id : read_list(system + "/cpu/online")) {
    const auto siblings =
        read_list(fmt::format("{}/cpu/cpu{}/topology/thread_siblings_list", system, id));
    const auto node = node_of.find(id);
    cpus.push_back(
        {id, siblings.empty() ? id : siblings[0], node == node_of.end() ? 0 : node->second});
  }
  return cpus;
}

std::vector<Cpu> usable_cpus() {
  std::vector<Cpu> cpus = read_cpus();
#ifdef __linux__
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
    std::erase_if(cpus,
                  [&](const Cpu& c) { return c.id >= CPU_SETSIZE || !CPU_ISSET(c.id, &allowed); });
#endif
  return cpus;
}

std::optional<double> cpu_quota(const std::string& root) {
  std::string group;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);)
    if (line.starts_with("0::/")) group = line.substr(3);
  std::optional<double> least;
  // In a container the path may be that of the machine outside; what does not exist has no limit.
  for (;;) {
    const auto quota = read_quota(root + "/sys/fs/cgroup" + group + "/cpu.max");
    if (quota && (!least || *quota < *least)) least = quota;
    if (group.empty()) return least;
    group.resize(group.rfind('/'));
  }
}

int cores_to_use(std::span<const Cpu> usable, std::optional<double> quota) {
  size_t n = 0;
  for (const auto& [node, cores] : cores_by_node(usable)) n += cores.size();
  return within(quota, n);
}

int cpus_to_use(std::span<const Cpu> usable, std::optional<double> quota) {
  return within(quota, usable.size());
}

Result<Pin> find_pin(std::string_view name) {
  if (name == "auto") return Pin::kAuto;
  if (name == "on") return Pin::kOn;
  if (name == "off") return Pin::kOff;
  return usage(fmt::format("--pin {}: expected auto, on or off", name));
}

std::vector<std::vector<int>> seats(std::span<const Cpu> usable, int n_threads,
                                    std::optional<double> quota, Pin pin) {
  const auto nodes = cores_by_node(usable);
  if (pin == Pin::kOff || (pin == Pin::kAuto && nodes.size() < 2)) return {};
  if (n_threads > cores_to_use(usable, quota)) return {};
  std::vector<std::vector<int>> taken;
  for (size_t i = 0; static_cast<int>(taken.size()) < n_threads; i++)
    for (const auto& [node, cores] : nodes)
      if (i < cores.size() && static_cast<int>(taken.size()) < n_threads) taken.push_back(cores[i]);
  return taken;
}

void sit(std::span<const int> cpus) {
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus)
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  if (CPU_COUNT(&set) > 0) sched_setaffinity(0, sizeof set, &set);
#else
  (void)cpus;
#endif
}

}  // namespace narwhal
