// narwhal eval: quality of a model, on cases made for the purpose.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/progress.h"
#include "cli/commands.h"
#include "cli/setup.h"
#include "cli/terminal.h"
#include "eval/agreement.h"
#include "eval/examiner.h"
#include "eval/skills.h"

namespace narwhal::cli {

namespace {

Status agreement(const Args& args) {
  eval::AgreementOptions options;
  options.seed = static_cast<uint64_t>(args.integer("--seed"));
  if (args.integer("--n") > 0) options.n = args.integer("--n");
  NW_ASSIGN(EngineOptions engine_opts, engine_options(args));
  if (engine_opts.n_ctx == 0) engine_opts.n_ctx = 2 * options.n_document;
  NW_ASSIGN(const auto engine, Engine::open(engine_opts));
  engine_opts.backend = "ref";
  NW_ASSIGN(const auto reference, Engine::open(engine_opts));

  const InterruptGuard guard(/*second_ends=*/true);
  Result<eval::AgreementReport> report = [&] {
    Progress bar("positions", options.n);
    return eval::measure_agreement(*engine, *reference, options, [&](int64_t done, int64_t) {
      bar.update(done);
      return !InterruptGuard::interrupted();
    });
  }();
  if (!report.ok()) return report.status();
  if (args.flag("--json"))
    fmt::print("{}\n", (*report).to_json().dump());
  else
    fmt::print("{}", (*report).to_text());
  return ok_status();
}

}  // namespace

Status eval(const Args& args) {
  if (args.text("WHAT").empty()) return usage("nothing to evaluate; narwhal eval skills");
  if (args.text("WHAT") == "agreement") return agreement(args);
  eval::SkillsOptions options;
  options.seed = static_cast<uint64_t>(args.integer("--seed"));
  const int64_t n = args.integer("--n");
  if (n > std::numeric_limits<int>::max() / 64) {
    return usage(
        fmt::format("--n is {}, expected at most {}", n, std::numeric_limits<int>::max() / 64));
  }
  options.n = static_cast<int>(n);
  options.misses = static_cast<int>(std::min<int64_t>(args.integer("--misses"), 1000));
  NW_ASSIGN(EngineOptions engine_opts, engine_options(args));
  if (engine_opts.n_ctx == 0) engine_opts.n_ctx = eval::kSkillsContext;
  engine_opts.n_sessions = eval::Examiner::kSessions;
  NW_ASSIGN(const auto engine, Engine::open(engine_opts));

  const InterruptGuard guard(/*second_ends=*/true);
  Result<eval::SkillsReport> report = [&] {
    Progress bar("cases", 1000);
    return eval::evaluate_skills(*engine, options, [&](int64_t done, int64_t total) {
      bar.update(done * 1000 / total);
      return !InterruptGuard::interrupted();
    });
  }();
  if (!report.ok()) return report.status();
  if (args.flag("--json")) {
    fmt::print("{}\n", (*report).to_json().dump());
  } else {
    fmt::print("{}", (*report).to_text());
  }
  return ok_status();
}

}  // namespace narwhal::cli
