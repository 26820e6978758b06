// narwhal bench: speed over the context, or of single ops, beside what the machine could do.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "backend/backend.h"
#include "backend/cpu/kernels/level.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/threads.h"
#include "bench/ops_bench.h"
#include "bench/report.h"
#include "bench/traffic.h"
#include "cli/commands.h"
#include "cli/setup.h"
#include "cli/terminal.h"
#include "model/weights.h"
#include "text/tokenizer.h"

namespace narwhal::cli {
namespace {

using namespace narwhal::bench;

constexpr int kProgressSteps = 1000;

Result<int> small_number(const Args& args, std::string_view name) {
  const int64_t v = args.integer(name);
  if (v > 1000000) return usage(fmt::format("{} is {}, expected at most 1000000", name, v));
  return static_cast<int>(v);
}

Status write_text(const std::string& path, const std::string& text) {
  if (path.empty()) return ok_status();
  NW_ASSIGN(AtomicFile out, AtomicFile::create(path));
  NW_TRY(out.write_at(0, text.data(), text.size()));
  return out.commit();
}

// With --json the table moves to standard error.
void print_report(const Args& args, const std::string& table, const std::string& json) {
  const bool as_json = args.flag("--json");
  fmt::print(as_json ? stderr : stdout, "{}", table);
  if (as_json) fmt::print("{}", json);
}

Result<WalkOptions> walk_options(const Args& args) {
  WalkOptions o;
  o.ctx_start = args.integer("--ctx-start");
  o.ctx_max = args.integer("--ctx-max");
  if (args.given("--step-incr") && args.given("--step-mul"))
    return usage("--step-incr and --step-mul exclude each other; give one");
  o.step_incr = args.integer("--step-incr");
  o.step_mul = args.number("--step-mul");
  NW_ASSIGN(o.n_decode, small_number(args, "--gen"));
  NW_ASSIGN(o.repeat, small_number(args, "--repeat"));
  NW_ASSIGN(o.warmup, small_number(args, "--warmup"));
  o.seed = args.given("--seed") ? static_cast<uint64_t>(args.integer("--seed")) : 1;
  // One context only: where the walk starts is where it ends.
  if (args.given("--ctx-start") && !args.given("--ctx-max"))
    o.ctx_max = std::max(o.ctx_max, o.ctx_start);
  return o;
}

// The limits are those of this machine's cores; of a device that computes elsewhere only the bus to
// it is known.
Result<Setting> setting(const EngineOptions& options, bool has_meter) {
  NW_ASSIGN(const auto backend, make_backend(options.backend, {.n_threads = 1}));
  Setting s;
  s.machine = this_machine();
  s.date = utc_now();
  s.version = build_version();
  s.commit = build_commit();
  s.backend = backend->name();
  s.level = "-";
  if (s.backend == "cpu") {
    NW_ASSIGN(const cpu::Level level, cpu::find_level(options.cpu_level));
    s.level = level_name(level);
  }
  s.n_threads = options.n_threads > 0 ? options.n_threads : default_thread_count();
  s.has_meter = has_meter && backend->is_host();
  s.limits.n_threads = s.n_threads;
  if (!backend->is_host()) {
    s.limits.bus_gb_per_s = backend->measure_bus();
    if (const double rate = backend->measure_memory(); rate > 0)
      s.limits.read = {rate, uint64_t{1} << 30, false, true};
    return s;
  }
  fmt::print(stderr, "measuring the machine ...\n");
  LimitsOptions limits;
  limits.n_threads = s.n_threads;
  s.limits = measure_limits(limits);
  return s;
}

// The tokens to walk along: of -f, or drawn.
Result<std::vector<int32_t>> walk_text(const Args& args, const Engine& engine, int64_t n,
                                       uint64_t seed, std::string& source) {
  if (!args.given("--file")) {
    source = fmt::format("random tokens of seed {}", seed);
    return random_tokens(seed, n, engine.info().n_vocab);
  }
  source = args.text("--file");
  if (!engine.tokenizer())
    return bad_input(
        fmt::format("{}: the file has no tokenizer; run without -f", engine.info().path));
  NW_ASSIGN(const std::string text, read_text(source));
  std::vector<int32_t> ids = engine.tokenizer()->encode(text);
  if (static_cast<int64_t>(ids.size()) < n)
    return bad_input(
        fmt::format("{}: {} tokens, the walk needs {}; give a longer text or a "
                    "smaller --ctx-max",
                    source, ids.size(), n));
  ids.resize(n);
  return ids;
}

// A session as the walk sees it. The token a decoder would choose is looked for, and not used.
Track track_of(Engine& engine, std::unique_ptr<Session>& session) {
  Track t;
  t.restart = [&]() -> Status {
    session.reset();  // first, as the plan holds one
    NW_ASSIGN(session, engine.new_session());
    return ok_status();
  };
  t.prefill = [&](std::span<const int32_t> ids) {
    return session->append(ids, [](int64_t, int64_t) { return !InterruptGuard::interrupted(); });
  };
  t.decode = [&](int32_t id) -> Status {
    NW_TRY(session->append({&id, 1}));
    return session->candidates().n > 0 ? ok_status() : failed("no logits");
  };
  return t;
}

// Where the points lie under the roofline, from the file's own shapes and types.
Status add_traffic(const EngineOptions& options, const std::vector<Point>& points, Report& report) {
  NW_ASSIGN(const gguf::File file, open_model_file(options.model));
  NW_ASSIGN(const Config config, read_config(file));
  NW_ASSIGN(const Weights weights, bind_weights(config, file));
  const KvLayout layout = make_kv_layout(config, options.kv_precision);
  const WeightTraffic w = weight_traffic(config, weights);
  std::set<std::string_view> types;
  for (const gguf::Tensor& t : file.tensors()) types.insert(dtype_name(t.type));
  report.types = fmt::format("{}", fmt::join(types, " "));
  for (const Point& p : points) {
    Frontier f;
    f.point = p;
    f.weight_bytes = w.bytes;
    f.kv_bytes = kv_read_bytes(config, layout, p.ctx + p.n_decode / 2);
    f.prefill_gop =
        2e-9 * prefill_macs(config, w, p.interval_begin, p.ctx) / static_cast<double>(p.interval());
    report.frontiers.push_back(f);
  }
  return ok_status();
}

Status bench_walk(const Args& args) {
  NW_ASSIGN(EngineOptions options, engine_options(args));
  NW_ASSIGN(const WalkOptions walking, walk_options(args));
  NW_ASSIGN(const std::vector<int64_t> at, frontiers(walking));
  const int64_t n_tokens = walk_tokens(walking, at);
  if (options.n_ctx > 0 && options.n_ctx < n_tokens)
    return usage(fmt::format("--ctx {}: the walk needs {}; leave it out or raise it", options.n_ctx,
                             n_tokens));
  options.n_ctx = std::max(options.n_ctx, n_tokens);
  auto meter = EnergyMeter::open();

  Report report;
  NW_ASSIGN(report.setting, setting(options, meter.has_value()));
  NW_ASSIGN(const auto planned, Engine::inspect(options));
  fmt::print(stderr, "{}\n", plan_text(planned.second));
  const auto before = memory_use();
  const Stopwatch opening;
  NW_ASSIGN(const auto engine, Engine::open(options));
  report.open_seconds = opening.ms() * 1e-3;
  report.load = engine->load_stats();
  NW_ASSIGN(const auto tokens, walk_text(args, *engine, n_tokens, walking.seed, report.prompt));
  report.model = engine->info().name;
  report.path = engine->info().path;
  report.model_bytes = engine->info().tensor_bytes;
  report.chunk = options.prefill_chunk;
  report.repeat = walking.repeat;
  report.warmup = walking.warmup;

  const InterruptGuard guard(/*second_ends=*/true);
  std::unique_ptr<Session> session;
  std::vector<Point> points;
  {
    Progress bar("walking", walking.repeat * n_tokens);
    const auto progress = [&](int64_t done, int64_t) {
      bar.update(done);
      return !InterruptGuard::interrupted();
    };
    NW_ASSIGN(points, walk(walking, tokens, track_of(*engine, session), meter ? &*meter : nullptr,
                           steady_clock(), progress));
  }
  report.memory = memory_use();
  if (report.memory && before)
    report.memory->anonymous -= std::min(report.memory->anonymous, before->anonymous);
  report.planned_bytes = engine->plan().run_bytes();
  report.most_bytes = engine->plan().most_bytes();
  report.used_bytes = engine->used_bytes();
  NW_TRY(add_traffic(options, points, report));
  NW_TRY(write_text(args.text("--csv"), report_csv(report)));
  NW_TRY(write_text(args.text("--svg"), report_svg(report)));
  print_report(args, report_table(report), report_json(report));
  return ok_status();
}

Status bench_ops(const Args& args) {
  if (!args.text("--svg").empty()) return usage("--svg: a plot is made of walks, not of --ops");
  NW_ASSIGN(const EngineOptions engine, engine_options(args));
  OpsOptions options;
  options.backend = engine.backend == "auto" ? "cpu" : engine.backend;
  options.n_threads = engine.n_threads;
  options.pin = engine.pin;
  if (engine.cpu_level != "auto") {
    NW_ASSIGN(const cpu::Level level, cpu::find_level(engine.cpu_level));
    options.level = level_name(level);
  }
  options.op = args.text("--op");
  options.format = args.text("--format");
  OpsReport report;
  NW_ASSIGN(report.setting, setting(engine, false));
  report.setting.backend = options.backend;
  if (options.level.empty()) report.setting.level = "all";
  const InterruptGuard guard(/*second_ends=*/true);
  {
    Progress bar("ops", kProgressSteps);
    const auto progress = [&](int64_t done, int64_t total) {
      bar.update(done * kProgressSteps / total);
      return !InterruptGuard::interrupted();
    };
    NW_ASSIGN(report.rows,
              narwhal::bench::bench_ops(flash_config(), options, report.setting.limits, progress));
  }
  NW_TRY(write_text(args.text("--csv"), ops_csv(report)));
  print_report(args, ops_table(report), ops_json(report));
  return check_cells(options, report.rows);
}

}  // namespace

Status bench(const Args& args) { return args.flag("--ops") ? bench_ops(args) : bench_walk(args); }

}  // namespace narwhal::cli
