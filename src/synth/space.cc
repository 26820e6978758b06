#include "synth/space.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <system_error>

#ifdef __linux__
#include <sys/vfs.h>
#endif

namespace narwhal::synth_detail {
namespace {

constexpr double kGiB = 1 << 30;

bool lies_in_memory([[maybe_unused]] const std::filesystem::path& folder) {
#ifdef __linux__
  constexpr unsigned long kTmpfs = 0x01021994, kRamfs = 0x858458f6;
  struct statfs s {};
  if (statfs(folder.c_str(), &s) != 0) return false;
  const auto type = static_cast<unsigned long>(s.f_type) & 0xffffffff;
  return type == kTmpfs || type == kRamfs;
#else
  return false;
#endif
}

}  // namespace

std::optional<uint64_t> available_memory() {
#ifdef __linux__
  std::ifstream in("/proc/meminfo");
  std::string key, rest;
  uint64_t kib = 0;
  while (in >> key >> kib) {
    std::getline(in, rest);
    if (key == "MemAvailable:") return kib << 10;
  }
#endif
  return std::nullopt;
}

Status check_space(const std::string& path, uint64_t n_bytes) {
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  if (error) return failed(fmt::format("{}: {}", folder.string(), error.message()));
  if (n_bytes > space.available)
    return failed(fmt::format(
        "{}: {:.2f} GiB to write, {:.2f} GiB free; free some, or use --sparse or --alias-experts",
        path, n_bytes / kGiB, space.available / kGiB));
  const auto memory = lies_in_memory(folder) ? available_memory() : std::nullopt;
  if (memory && n_bytes > *memory)
    return no_memory(
        fmt::format("{} lies in memory: {:.2f} GiB to write, {:.2f} GiB available; choose a folder "
                    "on disk, or use --sparse or --alias-experts",
                    path, n_bytes / kGiB, *memory / kGiB));
  return ok_status();
}

MemoryGate::MemoryGate(uint64_t floor_bytes) : floor_(floor_bytes) {
  if (floor_ > 0 && available_memory()) watcher_ = std::thread([this] { watch(); });
}

MemoryGate::~MemoryGate() {
  stop_ = true;
  if (watcher_.joinable()) watcher_.join();
}

void MemoryGate::pass() const {
  while (closed_) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

void MemoryGate::watch() {
  using Clock = std::chrono::steady_clock;
  constexpr auto kLongest = std::chrono::seconds(3);
  std::optional<Clock::time_point> low_since;
  while (!stop_) {
    const auto memory = available_memory();
    if (memory && *memory < floor_) {
      if (!low_since) low_since = Clock::now();
      closed_ = Clock::now() - *low_since < kLongest;
    } else {
      low_since.reset();
      closed_ = false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  closed_ = false;
}

}  // namespace narwhal::synth_detail
