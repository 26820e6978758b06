// The disk store under real sessions: a restart, a shared prefix or a damaged file changes the time
// that a prompt takes, never its logits.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "random_model.h"
#include "session/timeline.h"

namespace narwhal {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kCtx = 5200;

// One run of the program: an engine with its store, gone at the end of the scope.
class Life {
 public:
  Life(const std::string& dir, KvPrecision precision = KvPrecision::kTrained,
       uint64_t fingerprint = 5)
      : layout_(make_kv_layout(config_, precision)),
        backend_(*make_backend("cpu", {.n_threads = 2})) {
    config_.max_ctx = kCtx;
    const int max_pages = static_cast<int>(KvLayout::n_pages(kCtx));
    cache_ = *KvCache::create(layout_, *backend_, 2, int64_t{max_pages} * 2, max_pages);
    runner_ = *Runner::create(config_, weights_.weights(), layout_, *backend_, {256, 64, kCtx});
    host_.reset(new SessionHost{config_, layout_, *backend_, *runner_, *cache_});
    host_->n_ctx = kCtx;
    host_->chunk = 256;
    host_->frontier_budget = 12 * layout_.frontier_bytes;
    host_->fingerprint = fingerprint;
    host_->next_conversation = next_conversation_ += 1000;
    if (dir.empty()) return;
    KvStoreOptions o;
    o.dir = dir;
    o.fingerprint = fingerprint;
    o.min_frontier_gap = 128;
    o.log = [](std::string_view) {};
    auto store = KvStore::open(std::move(o));
    EXPECT_TRUE(store.ok()) << store.status().message();
    store_ = *std::move(store);
    host_->store = store_.get();
  }
  std::unique_ptr<Session> session() { return *Timeline::create(*host_); }
  KvStore& store() { return *store_; }

 private:
  static inline uint64_t next_conversation_ = 0;
  Config config_ = small_config();
  RandomWeights weights_{config_};
  KvLayout layout_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Runner> runner_;
  std::unique_ptr<KvStore> store_;
  std::unique_ptr<SessionHost> host_;
};

class Disk : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = (fs::temp_directory_path() /
            ("narwhal_disk_" +
             std::string(testing::UnitTest::GetInstance()->current_test_info()->name())))
               .string();
    fs::remove_all(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  std::vector<float> cold(std::span<const int32_t> ids) {
    Life run("");
    auto s = run.session();
    EXPECT_TRUE(s->sync(ids).ok());
    return {s->logits().begin(), s->logits().end()};
  }
  void expect_logits(const Session& s, const std::vector<float>& want) {
    ASSERT_EQ(s.logits().size(), want.size());
    for (size_t i = 0; i < want.size(); i++) ASSERT_EQ(s.logits()[i], want[i]) << i;
  }
  std::string dir_;
  std::vector<int32_t> ids_ = random_tokens(5000, small_config().n_vocab, 33);
};

TEST_F(Disk, SecondRunResumesWithin128Tokens) {
  const std::span<const int32_t> prompt = std::span(ids_).first(4500);
  const auto want = cold(prompt);
  {
    Life run(dir_);
    auto s = run.session();
    ASSERT_TRUE(s->sync(prompt).ok());
    EXPECT_EQ(s->n_reused(), 0);
    expect_logits(*s, want);
  }
  Life run(dir_);
  auto s = run.session();
  ASSERT_TRUE(s->sync(prompt).ok());
  EXPECT_EQ(s->reuse().source, Reuse::Source::kDisk);
  EXPECT_EQ(s->n_reused(), 4480);
  expect_logits(*s, want);
  // The timeline goes on, and goes back, as if it had been computed here.
  const auto longer = std::span(ids_).first(4700);
  ASSERT_TRUE(s->sync(longer).ok());
  EXPECT_EQ(s->n_reused(), 4500);
  expect_logits(*s, cold(longer));
  ASSERT_TRUE(s->rewind(4490).ok());
  expect_logits(*s, cold(std::span(ids_).first(4490)));
}

TEST_F(Disk, ShortPromptsAreKeptToo) {
  const std::span<const int32_t> prompt = std::span(ids_).first(1300);
  {
    Life run(dir_);
    ASSERT_TRUE(run.session()->sync(prompt).ok());
  }
  Life run(dir_);
  auto s = run.session();
  ASSERT_TRUE(s->sync(prompt).ok());
  EXPECT_EQ(s->n_reused(), 1280);
  expect_logits(*s, cold(prompt));
}

TEST_F(Disk, AnotherConversationSharesThePrefix) {
  auto other = ids_;
  for (size_t i = 3000; i < other.size(); i++) other[i] = (other[i] + 1) % small_config().n_vocab;
  {
    Life run(dir_);
    ASSERT_TRUE(run.session()->sync(std::span(ids_).first(4500)).ok());
  }
  Life run(dir_);
  auto s = run.session();
  const auto prompt = std::span<const int32_t>(other).first(4500);
  ASSERT_TRUE(s->sync(prompt).ok());
  EXPECT_EQ(s->reuse().source, Reuse::Source::kDisk);
  EXPECT_GE(s->n_reused(), 2048);
  EXPECT_LE(s->n_reused(), 3000);
  expect_logits(*s, cold(prompt));
}

TEST_F(Disk, GrowingConversationWritesWhatIsNew) {
  uint64_t written = 0;
  {
    Life run(dir_);
    auto s = run.session();
    for (int64_t n = 500; n <= 5000; n += 450) {
      ASSERT_TRUE(s->sync(std::span(ids_).first(n)).ok());
      s->mark(Mark::kTurnEnd);
    }
    run.store().flush();
    written = run.store().stats().bytes_written;
  }
  uint64_t kept = 0;
  for (const auto& entry : fs::recursive_directory_iterator(dir_))
    if (entry.is_regular_file()) kept += entry.file_size();
  EXPECT_LT(written, 3 * kept);
  Life run(dir_);
  auto s = run.session();
  ASSERT_TRUE(s->sync(ids_).ok());
  EXPECT_EQ(s->n_reused(), 4992);
}

TEST_F(Disk, ForeignModelsDoNotMatch) {
  const auto prompt = std::span<const int32_t>(ids_).first(3000);
  {
    Life run(dir_);
    ASSERT_TRUE(run.session()->sync(prompt).ok());
  }
  Life run(dir_, KvPrecision::kTrained, 6);
  auto s = run.session();
  ASSERT_TRUE(s->sync(prompt).ok());
  EXPECT_EQ(s->n_reused(), 0);
}

TEST_F(Disk, DamagedFilesCostTimeOnly) {
  const auto prompt = std::span<const int32_t>(ids_).first(4500);
  const auto want = cold(prompt);
  {
    Life run(dir_);
    ASSERT_TRUE(run.session()->sync(prompt).ok());
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(dir_))
    if (entry.is_regular_file() && entry.file_size() > 10000) files.push_back(entry.path());
  ASSERT_FALSE(files.empty());
  for (const auto& path : files) {  // a byte in the middle of every stored piece
    std::fstream f(path, std::ios::in | std::ios::out | std::ios::binary);
    f.seekg(static_cast<std::streamoff>(fs::file_size(path) / 2));
    const char c = static_cast<char>(f.get() ^ 1);
    f.seekp(static_cast<std::streamoff>(fs::file_size(path) / 2));
    f.put(c);
  }
  Life run(dir_);
  auto s = run.session();
  ASSERT_TRUE(s->sync(prompt).ok());
  expect_logits(*s, want);
  ASSERT_TRUE(s->sync(prompt).ok()) << "and the same request cannot fail twice on it";
}

// Restarts, other conversations, rewinds and growth in any order, around the borders of blocks: a
// reused prefix never shows in the logits.
TEST_F(Disk, RandomRestarts) {
  std::mt19937 rng(extra_seed() + 8);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(rng() % n); };
  constexpr int64_t kLength = 4300;
  const int64_t branches[] = {0, 1024, 2047, 2049, 4096};
  std::vector<std::vector<int32_t>> ids;
  std::vector<std::vector<std::vector<float>>> want;
  for (uint32_t k = 0; k < 5; k++) {
    ids.push_back(random_tokens(kLength, small_config().n_vocab, 50 + k));
    std::copy_n(ids[0].begin(), branches[k], ids[k].begin());
    Life run("");
    auto s = run.session();
    want.emplace_back();
    ASSERT_TRUE(s->append(ids[k], {}, [&](int64_t, std::span<const float> v) {
                   want.back().emplace_back(v.begin(), v.end());
                 }).ok());
  }
  int64_t reused = 0, from_disk = 0;
  for (int life = 0; life < 8; life++) {
    Life run(dir_);
    std::unique_ptr<Session> sessions[] = {run.session(), run.session()};
    for (int op = 0; op < 6; op++) {
      const int64_t k = below(5);
      const int64_t near[] = {128 * (1 + below(33)), 2048, 4096, below(kLength - 4)};
      const int64_t n = std::clamp<int64_t>(near[below(4)] + below(5) - 2, 1, kLength);
      Session& s = *sessions[below(2)];
      ASSERT_TRUE(s.sync(std::span(ids[k]).first(n)).ok());
      reused += s.n_reused();
      from_disk += s.reuse().source == Reuse::Source::kDisk;
      expect_logits(s, want[k][n - 1]);
      if (below(2)) s.mark(Mark::kTurnEnd);
      if (below(3) == 0 && n > 200) {
        const int64_t to = n - 1 - below(200);
        ASSERT_TRUE(s.rewind(to).ok());
        if (!s.logits().empty()) expect_logits(s, want[k][to - 1]);
      }
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  EXPECT_GT(reused, 0);
  EXPECT_GE(from_disk, 6) << "restarts find their prefixes";
}

}  // namespace
}  // namespace narwhal
