// What `narwhal bench` found, and how it is written down: a table for people, CSV for records, JSON
// for programs, SVG for pasting.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/limits.h"
#include "bench/machine.h"
#include "bench/walk.h"
#include "narwhal/engine.h"

namespace narwhal::bench {

// The circumstances that every figure is told with.
struct Setting {
  Machine machine;
  Limits limits;
  std::string date;     // utc_now()
  std::string version;  // of the program
  std::string commit;   // build_commit()
  std::string backend;  // "cpu"
  std::string level;    // instruction set of the kernels; "current" where it is not known
  int n_threads = 0;
  bool has_meter = false;  // energy was measured
};

// A point with its place under the roofline.
struct Frontier {
  Point point;
  int64_t weight_bytes = 0, kv_bytes = 0;  // read per decoded token, at the middle decoded one
  double prefill_gop = 0;                  // 10^9 operations per prompt token of the interval
};

struct Report {
  Setting setting;
  std::string model, path;
  uint64_t model_bytes = 0;
  std::string types;  // "iq2_xxs q2_k q8_0 ..."
  int chunk = 0;      // prompt tokens computed at once, 0 = the backend's choice
  int repeat = 0, warmup = 0;
  std::string prompt;  // "random, seed 1" or the file's name
  double open_seconds = 0;
  LoadStats load;  // a part of it; zeros where weights stay where they are mapped
  // Beside the weights: what the plan says for full sessions, the most that it allows, what the
  // engine came to use, and what the process took from opening the model to the end of the walk;
  // pages of files apart. Nothing of the process where the system does not tell.
  uint64_t planned_bytes = 0, most_bytes = 0, used_bytes = 0;
  std::optional<MemoryUse> memory;
  std::vector<Frontier> frontiers;
};

// One line for people: what the plan says before anything is taken.
std::string plan_text(const MemoryPlan& plan);

// Decode: 10^9 bytes a second that its tokens had to read, and their part of the read bandwidth.
double decode_gb_per_s(const Frontier& f);
double decode_of_read(const Frontier& f, const Limits& limits);
// Loading: 10^9 bytes of weights a second, and their part of the bus.
double load_gb_per_s(const Report& r);
double load_of_bus(const Report& r);
// Prefill: 10^9 operations a second, and their part of the peaks.
double prefill_gops(const Frontier& f);
double prefill_of_vector(const Frontier& f, const Limits& limits);
double prefill_of_matrix(const Frontier& f, const Limits& limits);

std::string report_table(const Report& report);
std::string report_csv(const Report& report);  // header and one line per frontier
std::string report_json(const Report& report);
std::string report_svg(const Report& report);

// The lines about machine, build and limits, for any table.
std::string setting_text(const Setting& setting);

// One CSV line with its newline; fields with commas, quotes or line ends are quoted (RFC 4180).
std::string csv_line(const std::vector<std::string>& fields);

}  // namespace narwhal::bench
