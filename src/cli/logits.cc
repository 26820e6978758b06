// narwhal logits: raw logits of every position, for comparison with a reference.
#include <fmt/format.h>

#include <bit>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/setup.h"
#include "cli/terminal.h"

namespace narwhal::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "rows are written as they lie in memory");

Result<std::vector<int32_t>> ids_of(const Args& args, int64_t n_vocab) {
  if (args.given("--ids") == args.given("--ids-file")) {
    return usage("give the token ids with --ids \"1 2 3\" or with --ids-file FILE");
  }
  std::string text = args.text("--ids");
  if (args.given("--ids-file")) {
    NW_ASSIGN(text, read_file(args.text("--ids-file")));
  }
  NW_ASSIGN(auto ids, parse_ids(text, n_vocab));
  if (ids.empty()) return bad_input("no token ids; give at least one");
  return ids;
}

}  // namespace

Status logits(const Args& args) {
  const std::string& path = args.text("--out");
  if (path.empty()) return usage("no output file; give --out FILE");
  NW_ASSIGN(EngineOptions options, engine_options(args));
  NW_ASSIGN(const auto engine, Engine::open(options));
  const int64_t n_vocab = engine->info().n_vocab;
  NW_ASSIGN(const auto ids, ids_of(args, n_vocab));
  NW_ASSIGN(const auto session, engine->new_session());
  if (static_cast<int64_t>(ids.size()) > session->n_ctx()) {
    return usage(fmt::format("{} token ids, the context holds {}; give fewer or a larger --ctx",
                             ids.size(), session->n_ctx()));
  }

  NW_ASSIGN(AtomicFile out, AtomicFile::create(path));
  const InterruptGuard guard(/*second_ends=*/true);
  const Stopwatch watch;
  Status written;
  {
    Progress bar("computing", static_cast<int64_t>(ids.size()));
    const auto progress = [&](int64_t done, int64_t) {
      bar.update(done);
      return written.ok() && !InterruptGuard::interrupted();
    };
    const auto each = [&](int64_t position, std::span<const float> row) {
      if (!written.ok()) return;
      written = out.write_at(uint64_t(position) * row.size_bytes(), row.data(), row.size_bytes());
    };
    const Status status = session->append(ids, progress, each);
    NW_TRY(written);
    NW_TRY(status);
  }
  NW_TRY(out.commit());
  if (args.flag("--json")) {
    Json j = Json::object();
    j.set("out", Json::of(path));
    j.set("rows", Json::of(static_cast<int64_t>(ids.size())));
    j.set("columns", Json::of(n_vocab));
    j.set("ms", Json::of(watch.ms()));
    fmt::print("{}\n", j.dump());
  } else {
    fmt::print(stderr, "{}: {} rows of {} float32 in {:.0f} ms\n", path, ids.size(), n_vocab,
               watch.ms());
  }
  return ok_status();
}

}  // namespace narwhal::cli
