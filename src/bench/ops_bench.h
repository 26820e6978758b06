// The speed of single ops at the shapes of a model, beside what the machine could do.
//
// The products with weights make a grid that must be whole: every weight format x every level of
// the backend's kernels x
//   matvec    wo_b of one row, a decoded token
//   head      logits of one row: large enough for GPUs, whose launches take longer than a matvec
//   matmul    the same matrix for a chunk of rows, a prompt
//   grouped   the routed experts of a chunk, each expert chosen by equally many rows
// (and `experts`, the routed experts of one row). The other ops follow at one row and at a chunk.
//
// Weights lie in an arena larger than the last-level cache, of which every call takes another part,
// so that a matvec reads memory as a decoded token does. Activations are small and stay in cache;
// the rate of ops that touch nothing else may well exceed what memory gives.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/limits.h"
#include "bench/report.h"
#include "model/config.h"
#include "narwhal/status.h"
#include "tensor/dtype.h"

namespace narwhal::bench {

struct OpsOptions {
  std::string backend = "auto";
  std::string op;      // only this one; empty = all
  std::string format;  // only this one; empty = all
  std::string level;   // only this one; empty = all that this machine has
  int n_threads = 0;   // 0 = one per physical core
  std::string pin = "auto";
  int max_rows = 0;  // of a chunk; 0 = 256
  double cell_seconds = 0.1;
  uint64_t arena_bytes = 0;  // 0 = twice the last-level cache, from 256 MiB to 1 GiB
  int64_t ctx = 8192;        // tokens of the sequence that attention ops look back on
};

struct OpRow {
  std::string level, op, format;  // format: "-" where no weights are involved
  int n = 0;                      // rows
  int64_t bytes = 0;              // that must be read and written once
  int64_t macs = 0;
  double seconds = 0;  // of one call, median
  double gb_per_s = 0, gop_per_s = 0;
  double of_limit = 0;  // least possible time by bytes or multiply-adds, over the time taken
};

// Weight formats of the grid.
std::span<const DType> bench_formats();
// Levels that this machine can run, best last.
std::vector<std::string> bench_levels(const OpsOptions& options);

using OpsProgress = std::function<bool(int64_t done, int64_t total)>;

// Rows in the order of the grid. kUsage for a filter that matches nothing; kNoMemory.
Result<std::vector<OpRow>> bench_ops(const Config& config, const OpsOptions& options,
                                     const Limits& limits, const OpsProgress& progress = {});

// kFailed naming the first cell of the grid (within the filters) that has no row.
Status check_cells(const OpsOptions& options, std::span<const OpRow> rows);

// Least seconds that `bytes` and `macs` need on a machine with these limits.
double least_seconds(int64_t bytes, int64_t macs, double read_gb_per_s, double gop_per_s);

struct OpsReport {
  Setting setting;
  std::vector<OpRow> rows;
};
std::string ops_table(const OpsReport& report);
std::string ops_csv(const OpsReport& report);
std::string ops_json(const OpsReport& report);

}  // namespace narwhal::bench
