// narwhal cache: what the disk cache holds, whether it is sound, and less of it.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>

#include "base/json.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/setup.h"
#include "kvstore/kv_store.h"

namespace narwhal::cli {
namespace {

constexpr size_t kShortId = 12;

Result<std::unique_ptr<KvStore>> open_store(const Args& args) {
  const std::string& dir = args.text("--kv-disk-dir");
  if (dir.empty()) return usage("no folder; name the cache with --kv-disk-dir");
  KvStoreOptions options;
  options.dir = dir;
  options.budget_bytes = static_cast<uint64_t>(args.integer("--kv-disk-space-mb")) << 20;
  options.create = false;
  return KvStore::open(std::move(options));
}

std::string_view kind_name(FrontierKind kind) {
  return kind == FrontierKind::kAnchor    ? "anchor"
         : kind == FrontierKind::kPrefill ? "prefill"
                                          : "turn end";
}

// "5 min", from seconds.
std::string age(int64_t seconds) {
  const auto n = std::max<int64_t>(0, seconds);
  return n < 120         ? fmt::format("{} s", n)
         : n < 2 * 3600  ? fmt::format("{} min", n / 60)
         : n < 48 * 3600 ? fmt::format("{} h", n / 3600)
                         : fmt::format("{} d", n / 86400);
}

int64_t now() {
  using std::chrono::system_clock;
  return std::chrono::duration_cast<std::chrono::seconds>(system_clock::now().time_since_epoch())
      .count();
}

Json number(uint64_t n) { return Json::of(static_cast<int64_t>(n)); }

Json entry_json(const KvEntry& e) {
  Json j = Json::object();
  j.set("id", Json::of(e.id.hex()));
  j.set("kind", Json::of(std::string(kind_name(e.kind))));
  j.set("model", Json::of(fmt::format("{:016x}", e.fingerprint)));
  j.set("tokens", Json::of(e.n_tokens));
  j.set("blocks", Json::of(e.n_blocks));
  j.set("bytes", number(e.bytes));
  j.set("own_bytes", number(e.own_bytes));
  j.set("hits", number(e.hits));
  j.set("created_at", Json::of(e.created_at));
  j.set("used_at", Json::of(e.used_at));
  return j;
}

// The entry whose id begins so.
Result<KvEntry> entry_named(KvStore& store, const std::string& id) {
  if (id.empty()) return usage("no entry named; narwhal cache ls lists them");
  std::optional<KvEntry> found;
  for (const KvEntry& e : store.entries()) {
    if (!e.id.hex().starts_with(id)) continue;
    if (found) return usage(fmt::format("several entries begin with {}; give more of the id", id));
    found = e;
  }
  if (found) return *found;
  return usage(fmt::format("no entry {}; narwhal cache ls lists them", id));
}

Status list(KvStore& store, const Args& args) {
  const std::vector<KvEntry> entries = store.entries();
  const KvStats stats = store.stats();
  if (args.flag("--json")) {
    Json j = Json::object();
    j.set("bytes", number(stats.bytes));
    j.set("budget_bytes", number(stats.budget_bytes));
    j.set("blocks", number(stats.n_blocks));
    j.set("texts", number(stats.n_texts));
    j.set("turns", number(stats.n_turns));
    j.set("hits", number(stats.hits));
    j.set("misses", number(stats.misses));
    j.set("tokens_reused", number(stats.tokens_reused));
    Json list = Json::array();
    for (const KvEntry& e : entries) list.push(entry_json(e));
    j.set("entries", std::move(list));
    fmt::print("{}\n", j.dump());
    return ok_status();
  }
  if (!entries.empty()) {
    fmt::print("{:<12} {:>8}  {:<8} {:>12} {:>12} {:>5} {:>7} {:>7}\n", "id", "tokens", "kind",
               "size", "own", "hits", "made", "used");
  }
  for (const KvEntry& e : entries) {
    fmt::print("{:<12} {:>8}  {:<8} {:>12} {:>12} {:>5} {:>7} {:>7}\n",
               e.id.hex().substr(0, kShortId), e.n_tokens, kind_name(e.kind), format_bytes(e.bytes),
               format_bytes(e.own_bytes), e.hits, age(now() - e.created_at),
               age(now() - e.used_at));
  }
  fmt::print("{} {}, {} of {}; {} hits, {} misses, {} tokens reused\n", entries.size(),
             entries.size() == 1 ? "entry" : "entries", format_bytes(stats.bytes),
             format_bytes(stats.budget_bytes), stats.hits, stats.misses, stats.tokens_reused);
  return ok_status();
}

Status show(KvStore& store, const Args& args) {
  NW_ASSIGN(const KvEntry named, entry_named(store, args.text("ID")));
  NW_ASSIGN(const KvEntryDetail d, store.detail(named.id));
  if (args.flag("--json")) {
    Json j = entry_json(d.entry);
    j.set("conversation", Json::of(fmt::format("{:016x}", d.conversation)));
    Json blocks = Json::array(), tokens = Json::array();
    for (const KvId& id : d.blocks) blocks.push(Json::of(id.hex()));
    for (const int32_t t : d.tokens) tokens.push(Json::of(static_cast<int64_t>(t)));
    j.set("block_ids", std::move(blocks));
    j.set("token_ids", std::move(tokens));
    fmt::print("{}\n", j.dump());
    return ok_status();
  }
  const KvEntry& e = d.entry;
  const auto row = [](std::string_view label, const std::string& value) {
    fmt::print("  {:<14} {}\n", label, value);
  };
  constexpr size_t kShown = 16;
  const auto first = std::span(d.tokens).first(std::min(kShown, d.tokens.size()));
  fmt::print("{}\n", e.id.hex());
  row("kind", std::string(kind_name(e.kind)));
  row("model", fmt::format("{:016x}", e.fingerprint));
  row("conversation", fmt::format("{:016x}", d.conversation));
  row("tokens", fmt::format("{}: {}{}", e.n_tokens, fmt::join(first, " "),
                            d.tokens.size() > kShown ? " ..." : ""));
  row("blocks", fmt::format("{}", e.n_blocks));
  row("size",
      fmt::format("{}, of it {} not shared", format_bytes(e.bytes), format_bytes(e.own_bytes)));
  row("hits", fmt::format("{}", e.hits));
  row("made", age(now() - e.created_at) + " ago");
  row("used", age(now() - e.used_at) + " ago");
  return ok_status();
}

Status verify(KvStore& store, const Args& args) {
  std::optional<Progress> bar;
  NW_ASSIGN(const KvCheck check, store.verify([&](uint64_t done, uint64_t total) {
    if (!bar) bar.emplace("verify", static_cast<int64_t>(total));
    bar->update(static_cast<int64_t>(done));
  }));
  bar.reset();
  if (args.flag("--json")) {
    Json j = Json::object();
    j.set("files", number(check.n_files));
    j.set("bytes", number(check.n_bytes));
    Json faults = Json::array();
    for (const std::string& fault : check.faults) faults.push(Json::of(fault));
    j.set("faults", std::move(faults));
    fmt::print("{}\n", j.dump());
  } else {
    for (const std::string& fault : check.faults) fmt::print("{}\n", fault);
    fmt::print("{} files, {}, {} damaged\n", check.n_files, format_bytes(check.n_bytes),
               check.faults.size());
  }
  if (check.faults.empty()) return ok_status();
  return bad_input(
      fmt::format("{} damaged files, {}", check.faults.size(),
                  store.stats().read_only ? "in a folder that cannot be written" : "removed"));
}

void print_freed(const Args& args, uint64_t n_bytes) {
  if (args.flag("--json")) {
    Json j = Json::object();
    j.set("freed_bytes", number(n_bytes));
    fmt::print("{}\n", j.dump());
  } else {
    fmt::print("{} freed\n", format_bytes(n_bytes));
  }
}

Status remove(KvStore& store, const Args& args) {
  std::vector<KvEntry> entries;
  if (args.flag("--all")) {
    if (!args.text("ID").empty()) return usage("an id and --all exclude each other; give one");
    entries = store.entries();
  } else {
    NW_ASSIGN(const KvEntry named, entry_named(store, args.text("ID")));
    entries.push_back(named);
  }
  uint64_t freed = 0;
  for (const KvEntry& e : entries) {
    NW_ASSIGN(const uint64_t n, store.remove(e.id));
    freed += n;
  }
  print_freed(args, freed);
  return ok_status();
}

Status collect_garbage(KvStore& store, const Args& args) {
  NW_ASSIGN(const uint64_t freed, store.collect_garbage());
  print_freed(args, freed);
  return ok_status();
}

}  // namespace

Status cache(const Args& args) {
  NW_ASSIGN(const auto store, open_store(args));
  const std::string& action = args.text("ACTION");
  if (action == "show") return show(*store, args);
  if (action == "verify") return verify(*store, args);
  if (action == "gc") return collect_garbage(*store, args);
  if (action == "rm") return remove(*store, args);
  return list(*store, args);
}

}  // namespace narwhal::cli
