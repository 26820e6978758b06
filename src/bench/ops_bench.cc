#include "bench/ops_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "backend/backend.h"
#include "backend/cpu/kernels/level.h"
#include "bench/ops_rig.h"
#include "bench/traffic.h"
#include "residency/plan.h"

namespace narwhal::bench {
namespace {

constexpr DType kFormats[] = {DType::kQ8_0,  DType::kQ4_K, DType::kQ2_K, DType::kIQ2_XXS,
                              DType::kMXFP4, DType::kF16,  DType::kBF16};
constexpr std::string_view kGrid[] = {"matvec", "head", "matmul", "grouped"};
constexpr int kGroupedExperts = 32;
constexpr int kDefaultRows = 256;

bool wanted(const std::string& filter, std::string_view name) {
  return filter.empty() || filter == name;
}

double call_once(const Cell& cell, Ops& ops, int64_t turn) {
  const Clock now = steady_clock();
  const double start = now();
  cell.run(turn);
  ops.sync();
  return now() - start;
}

// One call after another until the time is up, at least three; the median. Calls too short for the
// clock, or for the wait at their end, are timed in batches: by the second call, as the first loads
// a device's kernels.
double time_cell(const Cell& cell, Ops& ops, double seconds) {
  const Clock now = steady_clock();
  const double second_call = call_once(cell, ops, 1);
  const auto batch = static_cast<int64_t>(std::clamp(0.002 / second_call, 1.0, 10000.0));
  std::vector<double> samples;
  int64_t turn = 2;
  for (double spent = 0; spent < seconds || samples.size() < 3;) {
    const double start = now();
    for (int64_t i = 0; i < batch; i++) cell.run(turn++);
    ops.sync();
    const double took = now() - start;
    samples.push_back(took / static_cast<double>(batch));
    spent += took;
  }
  return spread(samples).median;
}

// The run of one level.
class LevelBench {
 public:
  LevelBench(const OpsOptions& options, const Limits& limits, std::string level, Ops& ops,
             std::vector<OpRow>& rows)
      : o_(options), level_(std::move(level)), ops_(ops), rows_(rows) {
    const bool matrix = level_.find("amx") != std::string::npos;
    read_ = limits.read.gb_per_s;
    gops_ = matrix && limits.matrix_gops() > 0 ? limits.matrix_gops() : limits.vector_gops();
  }

  // Nothing is added when the results are not sane, so that the cell counts as missing.
  void measure(const OpsRig& rig, const Cell& cell) {
    if (!wanted(o_.op, cell.op)) return;
    call_once(cell, ops_, 0);
    if (!rig.sane(cell)) return;
    OpRow r;
    r.level = level_;
    r.op = cell.op;
    r.format = cell.format;
    r.n = cell.n;
    r.bytes = cell.bytes;
    r.macs = cell.macs;
    r.seconds = time_cell(cell, ops_, o_.cell_seconds);
    r.gb_per_s = static_cast<double>(r.bytes) / r.seconds * 1e-9;
    r.gop_per_s = 2 * static_cast<double>(r.macs) / r.seconds * 1e-9;
    r.of_limit = least_seconds(r.bytes, r.macs, read_, gops_) / r.seconds;
    rows_.push_back(r);
  }

  // As many rows as take a quarter of a second at most: slow levels get smaller chunks.
  template <class Make>
  void measure_chunk(const OpsRig& rig, int max_rows, const Make& make) {
    const Cell probe = make(std::min(8, max_rows));
    if (!wanted(o_.op, probe.op)) return;
    const double per_row = call_once(probe, ops_, 0) / probe.n;
    int n = max_rows;
    while (n > 16 && per_row * n > 0.25) n /= 2;
    measure(rig, make(n));
  }

 private:
  const OpsOptions& o_;
  std::string level_;
  Ops& ops_;
  std::vector<OpRow>& rows_;
  double read_ = 0, gops_ = 0;
};

uint64_t arena_bytes(const OpsOptions& options) {
  if (options.arena_bytes > 0) return options.arena_bytes;
  constexpr uint64_t kMiB = uint64_t{1} << 20;
  const uint64_t size = std::clamp(2 * this_machine().l3_bytes, 256 * kMiB, 1024 * kMiB);
  const uint64_t available = available_memory();
  return available > 0 ? std::min(size, available / 4) : size;
}

bool has_grid(const OpsOptions& o) {
  return wanted(o.op, "experts") ||
         std::any_of(std::begin(kGrid), std::end(kGrid),
                     [&](std::string_view op) { return wanted(o.op, op); });
}

}  // namespace

std::span<const DType> bench_formats() { return kFormats; }

std::vector<std::string> bench_levels(const OpsOptions& options) {
  if (options.backend != "auto" && options.backend != "cpu") return {options.backend};
  std::vector<std::string> names;
  for (const cpu::Level level : cpu::available_levels()) names.emplace_back(level_name(level));
  return names;
}

double least_seconds(int64_t bytes, int64_t macs, double read_gb_per_s, double gop_per_s) {
  const double by_bytes = fraction(static_cast<double>(bytes) * 1e-9, read_gb_per_s);
  const double by_macs = fraction(2 * static_cast<double>(macs) * 1e-9, gop_per_s);
  return std::max(by_bytes, by_macs);
}

Result<std::vector<OpRow>> bench_ops(const Config& config, const OpsOptions& options,
                                     const Limits& limits, const OpsProgress& progress) {
  const int max_rows = options.max_rows > 0 ? options.max_rows : kDefaultRows;
  const std::vector<std::string> levels = bench_levels(options);
  const auto total = static_cast<int64_t>(levels.size() * (std::size(kFormats) + 1));
  int64_t done = 0;
  std::vector<OpRow> rows;
  for (const std::string& level : levels) {
    if (!wanted(options.level, level)) continue;
    NW_ASSIGN(const auto backend, make_backend(options.backend, {.n_threads = options.n_threads,
                                                                 .pin = options.pin,
                                                                 .cpu_level = level}));
    NW_ASSIGN(const auto rig,
              OpsRig::create(config, *backend, max_rows, arena_bytes(options), options.ctx));
    LevelBench bench(options, limits, level, backend->ops(), rows);
    for (const DType format : kFormats) {
      if (progress && !progress(done++, total)) return cancelled();
      if (!wanted(options.format, dtype_name(format)) || !has_grid(options)) continue;
      rig->fill(format);
      bench.measure(*rig, rig->matvec());
      bench.measure_chunk(*rig, max_rows, [&](int n) { return rig->matmul(n); });
      bench.measure(*rig, rig->head());
      bench.measure(*rig, rig->experts());
      bench.measure_chunk(*rig, max_rows, [&](int n) { return rig->grouped(n, kGroupedExperts); });
    }
    if (progress && !progress(done++, total)) return cancelled();
    for (const int n : {1, max_rows / 4}) {
      if (n < 1) continue;
      if (wanted(options.format, "f16")) {
        rig->fill(DType::kF16);
        for (const Cell& cell : rig->f16_cells(n)) bench.measure(*rig, cell);
      }
      if (wanted(options.format, "q8_0")) {
        rig->fill(DType::kQ8_0);
        for (const Cell& cell : rig->q8_cells(n)) bench.measure(*rig, cell);
      }
      if (wanted(options.format, "-"))
        for (const Cell& cell : rig->plain_cells(n)) bench.measure(*rig, cell);
    }
  }
  if (rows.empty())
    return usage(
        fmt::format("--op \"{}\" --format \"{}\": no such op or format; narwhal bench "
                    "--ops without filters lists them",
                    options.op, options.format));
  return rows;
}

Status check_cells(const OpsOptions& options, std::span<const OpRow> rows) {
  std::set<std::string> have;
  for (const OpRow& r : rows) have.insert(r.level + " " + r.format + " " + r.op);
  for (const std::string& level : bench_levels(options)) {
    for (const DType format : kFormats) {
      for (const std::string_view op : kGrid) {
        if (!wanted(options.level, level) || !wanted(options.format, dtype_name(format)) ||
            !wanted(options.op, op))
          continue;
        const std::string key = fmt::format("{} {} {}", level, dtype_name(format), op);
        if (!have.contains(key))
          return failed(
              fmt::format("no figure for {} with {} weights at level {}: the result was "
                          "not finite or the op did not run",
                          op, dtype_name(format), level));
      }
    }
  }
  return ok_status();
}

}  // namespace narwhal::bench
