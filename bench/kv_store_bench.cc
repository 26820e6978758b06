// The disk cache at the sizes of V4 Flash: a block of 2,048 tokens has 7.1 MB of rows, a frontier
// 3.64 MB, and a row of its tail 3.5 KB a token.
//
//   build/release/kv_store_bench                     in $TMPDIR or /tmp: name a disk to measure it
//
// write and read: GB/s, files in the page cache. restore: a prefix of 25,000 tokens. transcript:
// bytes written over bytes left. sharing: bytes of 20 conversations over those of one.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kvstore/kv_store.h"

namespace narwhal {
namespace {

constexpr int64_t kBlockTokens = 2048, kWindow = 128;
constexpr size_t kRowBytes = 3466, kBlockBytes = kRowBytes * kBlockTokens;
constexpr size_t kFrontierBytes = 3640000;

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "kv_bench_XXXXXX").string();
    path_ = ::mkdtemp(name.data()) ? name : "";
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

  uint64_t bytes() const {
    uint64_t n = 0;
    for (const auto& e : std::filesystem::directory_iterator(path_)) n += e.file_size();
    return n;
  }

 private:
  std::string path_;
};

std::unique_ptr<KvStore> open_store(const std::string& dir) {
  auto store = KvStore::open({.dir = dir, .budget_bytes = uint64_t{64} << 30, .fingerprint = 1});
  if (!store.ok()) std::abort();
  return *std::move(store);
}

std::vector<int32_t> random_tokens(size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(n);
  for (auto& t : tokens) t = static_cast<int32_t>(random() % 129280);
  return tokens;
}

const std::vector<std::byte>& some_bytes() {
  static const std::vector<std::byte> bytes = [] {
    std::vector<std::byte> b(kFrontierBytes + kBlockBytes);
    std::mt19937_64 random(1);
    for (size_t i = 0; i + 8 <= b.size(); i += 8) {
      const uint64_t v = random();
      std::memcpy(&b[i], &v, 8);
    }
    return b;
  }();
  return bytes;
}

// What a session hands over after computing `tokens`: new blocks, and a frontier at the last
// multiple of the window.
void put(KvStore& store, std::span<const int32_t> tokens, uint64_t conversation,
         FrontierKind kind = FrontierKind::kTurnEnd) {
  const auto n = static_cast<int64_t>(tokens.size());
  for (int64_t p = store.stored_prefix(tokens); p + kBlockTokens <= n; p += kBlockTokens) {
    store.put_block(tokens.first(p + kBlockTokens), std::span(some_bytes()).first(kBlockBytes));
    store.flush();  // a prefill is slower than the disk
  }
  const int64_t end = n / kWindow * kWindow;
  if (!store.wants_frontier(tokens.first(end), kind)) return;
  store.put_frontier(tokens.first(end),
                     std::span(some_bytes()).first(kFrontierBytes + end % kBlockTokens * kRowBytes),
                     kind, conversation);
  store.flush();
}

int64_t restore(KvStore& store, std::span<const int32_t> tokens,
                std::vector<std::vector<std::byte>>& pages, std::vector<std::byte>& frontier) {
  const auto hit = store.find(tokens, static_cast<int64_t>(tokens.size()) - 1);
  if (!hit) return 0;
  for (int i = 0; i < hit->n_blocks(); i++) {
    if (!store.read_block(*hit, i, pages[i]).ok()) return 0;
  }
  frontier.resize(hit->frontier_bytes());
  return store.read_frontier(*hit, frontier).ok() ? hit->n_tokens() : 0;
}

void BM_Write(benchmark::State& state) {
  const Folder folder;
  const auto store = open_store(folder.path());
  const auto tokens = random_tokens(kBlockTokens * 10, 1);
  uint64_t fingerprint = 0, n = 0;
  for (auto _ : state) {
    auto options = KvStoreOptions{.dir = folder.path(), .fingerprint = fingerprint++};
    auto s = KvStore::open(options);
    for (int64_t p = kBlockTokens; p <= kBlockTokens * 10; p += kBlockTokens) {
      (*s)->put_block(std::span(tokens).first(p), std::span(some_bytes()).first(kBlockBytes));
    }
    (*s)->flush();
    n += (*s)->stats().bytes_written;
  }
  state.SetBytesProcessed(static_cast<int64_t>(n));
}

// How long put_block keeps its caller.
void BM_Hand_over(benchmark::State& state) {
  const Folder folder;
  const auto store = open_store(folder.path());
  uint64_t seed = 0;
  for (auto _ : state) {
    state.PauseTiming();
    store->flush();
    const auto tokens = random_tokens(kBlockTokens, seed++);
    state.ResumeTiming();
    store->put_block(tokens, std::span(some_bytes()).first(kBlockBytes));
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kBlockBytes));
}

void BM_Restore(benchmark::State& state) {
  const Folder folder;
  const auto store = open_store(folder.path());
  const auto tokens = random_tokens(25000, 1);
  put(*store, tokens, 1);
  std::vector<std::vector<std::byte>> pages(12, std::vector<std::byte>(kBlockBytes));
  std::vector<std::byte> frontier;
  int64_t n = 0;
  for (auto _ : state) n = restore(*store, tokens, pages, frontier);
  if (n != 25000 / kWindow * kWindow) state.SkipWithError("not restored");
  const auto n_bytes = static_cast<int64_t>(12 * kBlockBytes + frontier.size());
  state.counters["MB"] = static_cast<double>(n_bytes) * 1e-6;
  state.SetBytesProcessed(state.iterations() * n_bytes);
}

void BM_Find(benchmark::State& state) {
  const Folder folder;
  const auto store = open_store(folder.path());
  const auto tokens = random_tokens(1 << 20, 1);
  for (int64_t p = kBlockTokens; p <= 1 << 20; p += kBlockTokens) {
    store->put_block(std::span(tokens).first(p), std::span(some_bytes()).first(1000));
  }
  store->put_frontier(tokens, std::span(some_bytes()).first(1000), FrontierKind::kTurnEnd, 1);
  store->flush();
  for (auto _ : state) {
    if (!store->find(tokens, 1 << 20)) state.SkipWithError("not found");
  }
}

// 30 turns of 1,000 to 3,000 tokens.
void BM_Transcript(benchmark::State& state) {
  for (auto _ : state) {
    const Folder folder;
    const auto store = open_store(folder.path());
    std::mt19937_64 random(1);
    const auto tokens = random_tokens(100000, 1);
    size_t n = 0;
    for (int turn = 0; turn < 30; turn++) {
      n += 1000 + random() % 2001;
      put(*store, std::span(tokens).first(n), 1);
    }
    const KvStats stats = store->stats();
    state.counters["tokens"] = static_cast<double>(n);
    state.counters["written_MB"] = static_cast<double>(stats.bytes_written) * 1e-6;
    state.counters["left_MB"] = static_cast<double>(folder.bytes()) * 1e-6;
    state.counters["written/left"] =
        static_cast<double>(stats.bytes_written) / static_cast<double>(folder.bytes());
  }
}

// 20 conversations that begin with the same 20,000 tokens and add state.range(0) of their own.
void BM_Sharing(benchmark::State& state) {
  for (auto _ : state) {
    uint64_t bytes[2] = {};
    for (int k = 0; k < 2; k++) {
      const Folder folder;
      const auto store = open_store(folder.path());
      auto tokens = random_tokens(20000, 1);
      put(*store, tokens, 0, FrontierKind::kAnchor);
      for (uint64_t c = 0; c < (k ? 20 : 1); c++) {
        const auto own = random_tokens(static_cast<size_t>(state.range(0)), 2 + c);
        tokens.resize(20000);
        tokens.insert(tokens.end(), own.begin(), own.end());
        put(*store, tokens, c);
      }
      bytes[k] = folder.bytes();
    }
    state.counters["one_MB"] = static_cast<double>(bytes[0]) * 1e-6;
    state.counters["twenty_MB"] = static_cast<double>(bytes[1]) * 1e-6;
    state.counters["ratio"] = static_cast<double>(bytes[1]) / static_cast<double>(bytes[0]);
  }
}

BENCHMARK(BM_Write)->Unit(benchmark::kMillisecond)->Iterations(3)->UseRealTime();
BENCHMARK(BM_Hand_over)->Unit(benchmark::kMillisecond)->Iterations(20)->UseRealTime();
BENCHMARK(BM_Restore)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_Find)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_Transcript)->Unit(benchmark::kMillisecond)->Iterations(1)->UseRealTime();
BENCHMARK(BM_Sharing)->Arg(300)->Arg(2000)->Unit(benchmark::kMillisecond)->Iterations(1);

}  // namespace
}  // namespace narwhal

BENCHMARK_MAIN();
