// Sessions: whatever is reused, rewound, forked, saved or shared, the logits are those of a
// timeline that was computed once from the start, bit for bit.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "random_model.h"
#include "session/timeline.h"

namespace narwhal {
namespace {

constexpr int64_t kCtx = 1200;

// An engine without the file around it.
class Host {
 public:
  explicit Host(int n_slots, KvPrecision precision = KvPrecision::kTrained,
                int64_t frontiers_kept = 12)
      : layout_(make_kv_layout(config_, precision)),
        backend_(*make_backend("cpu", {.n_threads = 2})) {
    const int max_pages = static_cast<int>(KvLayout::n_pages(kCtx));
    cache_ = *KvCache::create(layout_, *backend_, n_slots, int64_t{max_pages} * n_slots, max_pages);
    runner_ = *Runner::create(config_, weights_.weights(), layout_, *backend_, {256, 64, kCtx});
    host_.reset(new SessionHost{config_, layout_, *backend_, *runner_, *cache_});
    host_->n_ctx = kCtx;
    host_->chunk = 192;
    host_->frontier_budget = frontiers_kept * layout_.frontier_bytes;
    host_->fingerprint = 17;
  }
  std::unique_ptr<Session> session() {
    auto s = Timeline::create(*host_);
    EXPECT_TRUE(s.ok()) << s.status().message();
    return *std::move(s);
  }
  SessionHost& operator*() { return *host_; }
  KvCache& cache() { return *cache_; }

 private:
  Config config_ = small_config();
  RandomWeights weights_{config_};
  KvLayout layout_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Runner> runner_;
  std::unique_ptr<SessionHost> host_;
};

// Token sequences that share prefixes of awkward lengths, and the logits after each of their
// tokens.
class Oracle {
 public:
  Oracle() {
    Host host(1);
    const int64_t branch[] = {0, 129, 254, 512, 515};
    sequences_.push_back(random_tokens(700, small_config().n_vocab, 100));
    for (uint32_t i = 1; i < 5; i++) {
      auto s = random_tokens(700, small_config().n_vocab, 100 + i);
      std::copy_n(sequences_[0].begin(), branch[i], s.begin());
      sequences_.push_back(s);
    }
    for (const auto& ids : sequences_) {
      auto session = host.session();
      std::vector<std::vector<float>> rows;
      EXPECT_TRUE(session
                      ->append(ids, {},
                               [&](int64_t, std::span<const float> v) {
                                 rows.emplace_back(v.begin(), v.end());
                               })
                      .ok());
      logits_.push_back(std::move(rows));
    }
  }
  int n() const { return static_cast<int>(sequences_.size()); }
  std::span<const int32_t> ids(int k, int64_t n_tokens) const {
    return std::span(sequences_[k]).first(n_tokens);
  }
  void expect(const Session& session, int k, const std::string& what) const {
    const auto n_tokens = static_cast<int64_t>(session.tokens().size());
    ASSERT_TRUE(std::equal(session.tokens().begin(), session.tokens().end(), sequences_[k].begin()))
        << what;
    const auto got = session.logits();
    const auto& want = logits_[k][n_tokens - 1];
    ASSERT_EQ(got.size(), want.size()) << what;
    for (size_t i = 0; i < want.size(); i++)
      ASSERT_EQ(got[i], want[i]) << what << " at " << n_tokens;
  }
  static const Oracle& get() {
    static const Oracle oracle;
    return oracle;
  }

 private:
  std::vector<std::vector<int32_t>> sequences_;
  std::vector<std::vector<std::vector<float>>> logits_;
};

TEST(Session, RandomOperations) {
  const Oracle& oracle = Oracle::get();
  std::mt19937 rng(extra_seed() + 3);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(rng() % n); };
  // Lengths near multiples of 4, 128 and the page, and any others.
  const auto length = [&] {
    const int64_t bases[] = {4 * below(170), 128 * (1 + below(5)), 512, below(690)};
    return std::clamp<int64_t>(bases[below(4)] + below(5) - 2, 1, 699);
  };
  const std::string path =
      (std::filesystem::temp_directory_path() / "narwhal_session_test.snap").string();
  Host host(4, KvPrecision::kTrained, 3);  // few frontiers, so that thinning is at work
  struct Live {
    std::unique_ptr<Session> session;
    int k = 0;
  };
  std::vector<Live> live;
  int n_checked = 0;
  int saved_k = -1;
  for (int op = 0; op < 1200; op++) {
    const std::string what = "operation " + std::to_string(op);
    if (live.empty() || (live.size() < 3 && below(10) == 0)) live.push_back({host.session(), 0});
    Live& l = live[below(static_cast<int64_t>(live.size()))];
    Session& s = *l.session;
    const auto size = static_cast<int64_t>(s.tokens().size());
    bool checkable = true;
    switch (below(8)) {
      case 0:
      case 1: {
        l.k = static_cast<int>(below(oracle.n()));
        ASSERT_TRUE(s.sync(oracle.ids(l.k, length())).ok());
        break;
      }
      case 2: {
        const int64_t n = std::min<int64_t>(1 + below(40), 700 - size);
        if (n <= 0) continue;
        ASSERT_TRUE(s.append(oracle.ids(l.k, size + n).subspan(size)).ok());
        break;
      }
      case 3: {
        if (size == 0) continue;
        const int64_t to = below(2) ? 1 + below(size) : std::max<int64_t>(1, size - below(20));
        ASSERT_TRUE(s.rewind(to).ok());
        checkable = !s.logits().empty();
        break;
      }
      case 4: {
        if (live.size() >= 4 || size == 0) continue;
        auto copy = s.fork();
        ASSERT_TRUE(copy.ok()) << copy.status().message();
        const int k = l.k;
        live.push_back({*std::move(copy), k});
        continue;
      }
      case 5:
        s.mark(Mark::kTurnEnd);
        continue;
      case 6: {
        if (below(3) == 0 && live.size() > 1) {
          live.erase(live.begin() + below(static_cast<int64_t>(live.size())));
        } else if (saved_k >= 0 && below(2)) {
          ASSERT_TRUE(s.restore(path).ok());
          l.k = saved_k;
        } else if (size > 0) {
          ASSERT_TRUE(s.snapshot(path).ok());
          saved_k = l.k;
        }
        continue;
      }
      case 7: {  // several sessions in one pass
        std::vector<Engine::Append> parts;
        for (Live& each : live) {
          const auto at = static_cast<int64_t>(each.session->tokens().size());
          const int64_t n = std::min<int64_t>(1 + below(30), 700 - at);
          if (n > 0)
            parts.push_back({each.session.get(), oracle.ids(each.k, at + n).subspan(at), true});
        }
        ASSERT_TRUE(Timeline::step(*host, parts).ok());
        for (Live& each : live)
          if (!each.session->logits().empty()) oracle.expect(*each.session, each.k, what);
        continue;
      }
    }
    if (checkable && !s.tokens().empty()) {
      oracle.expect(s, l.k, what);
      n_checked++;
    }
    if (testing::Test::HasFatalFailure()) return;
  }
  EXPECT_GT(n_checked, 300);
  live.clear();
  EXPECT_EQ(host.cache().n_free_pages(), KvLayout::n_pages(kCtx) * 4) << "a page was lost";
  std::filesystem::remove(path);
}

TEST(Session, ReusesWhatItCan) {
  const Oracle& oracle = Oracle::get();
  Host host(3);
  auto s = host.session();
  ASSERT_TRUE(s->sync(oracle.ids(0, 600)).ok());
  EXPECT_EQ(s->n_reused(), 0);
  ASSERT_TRUE(s->sync(oracle.ids(0, 600)).ok());
  EXPECT_EQ(s->n_reused(), 599) << "the same prompt again computes its last token";
  EXPECT_EQ(s->reuse().source, Reuse::Source::kLive);
  ASSERT_TRUE(s->sync(oracle.ids(0, 650)).ok());
  EXPECT_EQ(s->n_reused(), 600);
  // The sequences part at 515; a frontier was kept at 512, the last multiple of 128 before the end
  // was 640.
  ASSERT_TRUE(s->sync(oracle.ids(4, 700)).ok());
  EXPECT_EQ(s->n_reused(), 512);
  EXPECT_EQ(s->reuse().source, Reuse::Source::kMemory);
  oracle.expect(*s, 4, "resumed");
  auto other = host.session();
  ASSERT_TRUE(other->sync(oracle.ids(4, 690)).ok());
  EXPECT_EQ(other->n_reused(), 640) << "another session's frontier";
  oracle.expect(*other, 4, "shared");
  other->mark(Mark::kTurnEnd);
  auto third = host.session();
  ASSERT_TRUE(third->sync(oracle.ids(4, 691)).ok());
  EXPECT_EQ(third->n_reused(), 690) << "another session as it stands";
}

TEST(Session, ForksDoNotDisturbEachOther) {
  const Oracle& oracle = Oracle::get();
  Host host(2);
  auto a = host.session();
  ASSERT_TRUE(a->sync(oracle.ids(0, 513)).ok());
  const int64_t free_pages = host.cache().n_free_pages();
  auto b = *a->fork();
  EXPECT_EQ(host.cache().n_free_pages(), free_pages) << "a fork shares its pages";
  oracle.expect(*b, 0, "fork");
  ASSERT_TRUE(a->append(oracle.ids(0, 560).subspan(513)).ok());
  ASSERT_TRUE(b->rewind(512).ok());
  ASSERT_TRUE(b->append(oracle.ids(3, 570).subspan(512)).ok());
  oracle.expect(*b, 3, "branch");
  ASSERT_TRUE(a->append(oracle.ids(0, 700).subspan(560)).ok());
  oracle.expect(*a, 0, "original");
}

TEST(Session, StopsBetweenChunksAndKeepsThem) {
  const Oracle& oracle = Oracle::get();
  Host host(1);
  auto s = host.session();
  int calls = 0;
  const Status status = s->sync(oracle.ids(0, 700), [&](int64_t, int64_t) { return ++calls < 2; });
  EXPECT_EQ(status.code(), Code::kCancelled);
  const auto kept = static_cast<int64_t>(s->tokens().size());
  EXPECT_GT(kept, 0);
  EXPECT_LT(kept, 700);
  ASSERT_TRUE(s->sync(oracle.ids(0, 700)).ok());
  EXPECT_EQ(s->n_reused(), kept);
  oracle.expect(*s, 0, "continued");
}

TEST(Session, RefusesWhatDoesNotFit) {
  Host host(1);
  auto s = host.session();
  EXPECT_EQ(s->sync({}).code(), Code::kUsage);
  const std::vector<int32_t> bad = {1, 40}, negative = {-1};
  EXPECT_EQ(s->sync(bad).code(), Code::kUsage);
  EXPECT_EQ(s->append(negative).code(), Code::kUsage);
  const std::vector<int32_t> all(kCtx, 1);
  ASSERT_TRUE(s->append(all).ok()) << "position n_ctx - 1 is accepted";
  EXPECT_EQ(s->append(std::vector<int32_t>{1}).code(), Code::kUsage);
  EXPECT_EQ(s->sync(std::vector<int32_t>(kCtx + 1, 1)).code(), Code::kUsage);
  EXPECT_EQ(s->tokens().size(), static_cast<size_t>(kCtx)) << "a refusal loses nothing";
  EXPECT_EQ(s->rewind(kCtx + 1).code(), Code::kUsage);
  EXPECT_EQ(s->fork().status().code(), Code::kNoMemory) << "one slot only";
}

TEST(Session, RefusesDamagedSnapshots) {
  const Oracle& oracle = Oracle::get();
  const std::string path =
      (std::filesystem::temp_directory_path() / "narwhal_damaged.snap").string();
  Host host(2);
  auto s = host.session(), t = host.session();
  ASSERT_TRUE(s->sync(oracle.ids(0, 131)).ok());
  ASSERT_TRUE(s->snapshot(path).ok());
  std::string good;
  {
    std::ifstream in(path, std::ios::binary);
    good.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto try_restore = [&](const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    return t->restore(path).code();
  };
  EXPECT_EQ(try_restore(good), Code::kOk);
  ASSERT_TRUE(t->append(oracle.ids(0, 132).subspan(131)).ok());
  oracle.expect(*t, 0, "restored");
  for (const size_t cut :
       {size_t{0}, size_t{7}, size_t{47}, size_t{48}, size_t{600}, good.size() - 1})
    EXPECT_EQ(try_restore(good.substr(0, cut)), Code::kBadInput) << cut;
  for (size_t at = 0; at < good.size(); at += good.size() / 97 + 1) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    EXPECT_NE(try_restore(bad), Code::kOk) << "byte " << at;
  }
  oracle.expect(*t, 0, "a refused file changes nothing");
  std::filesystem::remove(path);
}

TEST(Session, ThreadsTakeTurns) {
  const Oracle& oracle = Oracle::get();
  Host host(3);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; i++)
    threads.emplace_back([&, i] {
      auto s = host.session();
      for (const int64_t n : {100, 300, 520, 250}) {
        EXPECT_TRUE(s->sync(oracle.ids(i, n)).ok());
        oracle.expect(*s, i, "thread");
      }
    });
  for (auto& t : threads) t.join();
}

TEST(Frontiers, ThinOutButKeepMarksAndTheNewest) {
  const auto image = std::make_shared<const std::vector<std::byte>>(10);
  Frontiers f(120);
  for (int64_t p = 1; p <= 100; p++) f.keep({p * 128, p == 7, image});
  EXPECT_LE(f.n_bytes(), 120);
  EXPECT_TRUE(f.has(7 * 128)) << "marked";
  for (int64_t p = 97; p <= 100; p++) EXPECT_TRUE(f.has(p * 128)) << p;
  // Going back n tokens finds a frontier within a fraction of n.
  for (int64_t p = 20; p <= 100; p++) {
    const KeptFrontier* at = f.nearest(p * 128);
    ASSERT_NE(at, nullptr);
    EXPECT_LE(p * 128 - at->position, (100 - p) * 128 + 256) << p;
  }
  f.truncate(98 * 128);
  EXPECT_EQ(f.all().back().position, 98 * 128);
  EXPECT_EQ(f.nearest(127), nullptr);
}

}  // namespace
}  // namespace narwhal
