// Where threads may run: the processors of this machine as Linux describes them, and a core of its
// own for every thread. Elsewhere nothing is known and threads are left to the system.
//
// Functions take `root`, the folder that holds /sys and /proc, so that tests can give machines.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "narwhal/status.h"

namespace narwhal {

struct Cpu {
  int id = 0;
  int core = 0;  // the lowest id among the hardware threads of its core
  int node = 0;  // of memory
};

// "0-3,8,10-11" as /sys writes lists of processors, ascending; nothing for other text.
std::optional<std::vector<int>> parse_cpu_list(std::string_view text);

// Processors that are online, by id; empty where the system does not tell.
std::vector<Cpu> read_cpus(const std::string& root = "");

// Of those, the ones this process may run on.
std::vector<Cpu> usable_cpus();

// Processors' worth of time that the process's control group or one above it allows; nothing where
// there is no limit.
std::optional<double> cpu_quota(const std::string& root = "");

// One thread per core, at most the whole processors of the quota; at least 1, 0 for no cpus.
int cores_to_use(std::span<const Cpu> usable, std::optional<double> quota);
// The same for hardware threads.
int cpus_to_use(std::span<const Cpu> usable, std::optional<double> quota);

// What threads do with that.
enum class Pin {
  kAuto,  // as kOn where there are several nodes; else the system places threads better than we can
  kOn,    // a core for each thread
  kOff,
};
// "auto", "on", "off"; kUsage for others.
Result<Pin> find_pin(std::string_view name);

// The processors of each thread: all hardware threads of one core. Neighbouring threads are on
// different nodes, so that any number of them shares the bandwidth of all. Empty, so that threads
// are left to the system, where there are fewer cores or less of a quota than threads.
std::vector<std::vector<int>> seats(std::span<const Cpu> usable, int n_threads,
                                    std::optional<double> quota, Pin pin);

// Binds the calling thread to these processors; does nothing for none, or where that fails.
void sit(std::span<const int> cpus);

}  // namespace narwhal
