#include "kvstore/kv_store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <random>
#include <thread>

#include "kvstore/kv_test_util.h"

namespace narwhal {
namespace {

TEST(KvStore, FindsTheLongestStoredPrefix) {
  const TestFolder folder;
  const auto store = open_store(test_options(folder.path()));
  const Tokens tokens = test_tokens(1, 100);
  const std::span all(tokens);
  EXPECT_EQ(store->find(all, 100), std::nullopt);
  put(*store, all.first(20));  // 2 blocks and a tail of 4
  put(*store, all.first(40));  // 5 blocks, no tail
  put(*store, all.first(5));   // no block
  store->flush();
  EXPECT_EQ(restore(*store, all), 40);
  EXPECT_EQ(restore(*store, all, 40), 40);
  EXPECT_EQ(restore(*store, all, 39), 20);
  EXPECT_EQ(restore(*store, all, 20), 20);
  EXPECT_EQ(restore(*store, all, 19), 5);
  EXPECT_EQ(restore(*store, all, 4), 0);
  EXPECT_EQ(restore(*store, all, 0), 0);
  EXPECT_EQ(restore(*store, all, -1), 0);
  EXPECT_EQ(restore(*store, {}), 0);
  Tokens other = tokens;
  other[19]++;  // within the tail
  EXPECT_EQ(restore(*store, other), 5);
  other = tokens;
  other[30]++;
  EXPECT_EQ(restore(*store, other), 20);
}

TEST(KvStore, SurvivesReopening) {
  const TestFolder folder;
  const Tokens tokens = test_tokens(1, 50);
  { put(*open_store(test_options(folder.path())), tokens); }
  const auto store = open_store(test_options(folder.path()));
  EXPECT_EQ(restore(*store, tokens), 50);
  EXPECT_EQ(store->stored_prefix(tokens), 48);
  EXPECT_EQ(store->stats().files_written, 0);
}

TEST(KvStore, OtherFingerprintsAndBlockSizesNeverMatch) {
  const TestFolder folder;
  const Tokens tokens = test_tokens(1, 50);
  { put(*open_store(test_options(folder.path())), tokens); }
  KvStoreOptions other = test_options(folder.path());
  other.fingerprint++;
  {
    const auto store = open_store(other);
    EXPECT_EQ(restore(*store, tokens), 0);
    EXPECT_EQ(store->stored_prefix(tokens), 0);
    put(*store, tokens);
    store->flush();
    EXPECT_EQ(restore(*store, tokens), 50);
    EXPECT_EQ(store->entries().size(), 2);
  }
  other = test_options(folder.path());
  other.block_tokens = 16;
  EXPECT_EQ(open_store(other)->find(tokens, 50), std::nullopt);
  EXPECT_EQ(restore(*open_store(test_options(folder.path())), tokens), 50);
}

TEST(KvStore, BlocksAreSharedAndWrittenOnce) {
  const TestFolder folder;
  const auto store = open_store(test_options(folder.path()));
  for (uint64_t c = 0; c < 10; c++) put(*store, test_tokens(c, 84, 80), c);
  store->flush();
  EXPECT_EQ(folder.files(".block").size(), 10);
  EXPECT_EQ(folder.files(".frontier").size(), 10);
  EXPECT_EQ(store->stats().files_written, 20);
  for (uint64_t c = 0; c < 10; c++) EXPECT_EQ(restore(*store, test_tokens(c, 84, 80)), 84);
}

TEST(KvStore, KeepsFourTurnEndsOfAConversation) {
  const TestFolder folder;
  const auto store = open_store(test_options(folder.path()));
  const Tokens tokens = test_tokens(1, 200);
  const std::span all(tokens);
  put(*store, all.first(12), 1, FrontierKind::kAnchor);
  for (size_t n = 20; n <= 200; n += 20) put(*store, all.first(n), 1);
  put(*store, all.first(36), 2);  // another conversation
  store->flush();
  std::vector<int64_t> left;
  for (const KvEntry& e : store->entries()) left.push_back(e.n_tokens);
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, (std::vector<int64_t>{12, 36, 140, 160, 180, 200}));
  EXPECT_EQ(folder.files(".frontier").size(), 6);
}

TEST(KvStore, AFrontierStaysWhileOneConversationNeedsIt) {
  const TestFolder folder;
  const auto store = open_store(test_options(folder.path()));
  const Tokens tokens = test_tokens(1, 200);
  const std::span all(tokens);
  put(*store, all.first(20), 1);
  put(*store, all.first(20), 2);
  for (size_t n = 40; n <= 200; n += 20) put(*store, all.first(n), 1);
  store->flush();
  EXPECT_EQ(restore(*store, all, 100), 20);
}

TEST(KvStore, PrefillFrontiersBecomeSparse) {
  const TestFolder folder;
  const auto store = open_store(test_options(folder.path()));
  const Tokens tokens = test_tokens(1, 100 * kTestBlock);
  const std::span all(tokens);
  for (size_t n = kTestBlock; n <= tokens.size(); n += kTestBlock) {
    put(*store, all.first(n), 1, FrontierKind::kPrefill);
  }
  store->flush();
  std::vector<int64_t> left;
  for (const KvEntry& e : store->entries()) left.push_back(e.n_tokens / kTestBlock);
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, (std::vector<int64_t>{32, 48, 64, 72, 80, 88, 92, 94, 96, 97, 98, 99, 100}));
  EXPECT_EQ(folder.files(".block").size(), 100);
}

TEST(KvStore, FrontiersTooNearAreNotWanted) {
  const TestFolder folder;
  KvStoreOptions options = test_options(folder.path());
  options.min_frontier_gap = 16;
  const auto store = open_store(options);
  const Tokens tokens = test_tokens(1, 200);
  const std::span all(tokens);
  constexpr auto kTurn = FrontierKind::kTurnEnd, kAnchor = FrontierKind::kAnchor;
  EXPECT_FALSE(store->wants_frontier(all.first(15), kTurn));
  EXPECT_FALSE(store->wants_frontier(all.first(15), kAnchor));
  EXPECT_TRUE(store->wants_frontier(all.first(16), kTurn));
  put(*store, all.first(30));
  store->flush();
  EXPECT_FALSE(store->wants_frontier(all.first(45), kTurn));
  EXPECT_TRUE(store->wants_frontier(all.first(46), kTurn));
  EXPECT_TRUE(store->wants_frontier(all.first(31), kAnchor));
  EXPECT_FALSE(store->wants_frontier(all.first(30), kAnchor));  // there already
  Tokens other = tokens;
  other[29]++;
  EXPECT_TRUE(store->wants_frontier(std::span(other).first(45), kTurn));
  put(*store, all.first(40));
  store->flush();
  EXPECT_EQ(restore(*store, all), 30);
  // What was passed in a prefill does not stand for the end of a turn.
  put(*store, all.first(60), 1, FrontierKind::kPrefill);
  store->flush();
  EXPECT_FALSE(store->wants_frontier(all.first(70), FrontierKind::kPrefill));
  EXPECT_TRUE(store->wants_frontier(all.first(70), kTurn));
}

TEST(KvStore, ABlockWithoutItsParentIsDropped) {
  const TestFolder folder;
  const auto store = open_store(test_options(folder.path()));
  const Tokens tokens = test_tokens(1, 32);
  const std::span all(tokens);
  store->put_block(all.first(16), block_bytes(all.first(16)));
  store->put_frontier(all.first(20), frontier_bytes(all.first(20)), FrontierKind::kTurnEnd, 1);
  store->flush();
  EXPECT_EQ(folder.files(".block").size() + folder.files(".frontier").size(), 0);
  EXPECT_EQ(store->stored_prefix(all), 0);  // offered again from here
  put(*store, all);
  store->flush();
  EXPECT_EQ(restore(*store, all), 32);
}

TEST(KvStore, AFullQueueDropsAndStaysUsable) {
  const TestFolder folder;
  KvStoreOptions options = test_options(folder.path());
  options.queue_bytes = 10 * kTestBlockBytes;
  const auto store = open_store(options);
  const Tokens tokens = test_tokens(1, 1600);
  put(*store, tokens);
  EXPECT_GT(store->stats().dropped_queue_full, 0);
  for (int tries = 0; tries < 5000 && restore(*store, tokens) != 1600; tries++) {
    put(*store, tokens);  // from where the store says
    store->flush();
  }
  EXPECT_EQ(restore(*store, tokens), 1600);
}

TEST(KvStore, TextsGiveTheExactTokensBack) {
  const TestFolder folder;
  const Tokens tokens = test_tokens(1, 40);
  const std::span all(tokens);
  {
    const auto store = open_store(test_options(folder.path()));
    put(*store, all);
    store->put_text("Once upon", all.first(5));
    store->put_text("Once upon a time", all.first(20));
    store->put_text("Once upon a time there was", all.first(40));
    store->put_text("Twice", test_tokens(2, 20));  // its blocks are not stored
  }
  const auto store = open_store(test_options(folder.path()));
  const auto check = [&](std::string_view text, size_t n_bytes, size_t n_tokens) {
    const auto found = store->find_text(text);
    ASSERT_TRUE(found) << text;
    EXPECT_EQ(found->n_bytes, n_bytes);
    EXPECT_EQ(found->tokens, Tokens(all.begin(), all.begin() + n_tokens));
  };
  check("Once upon", 9, 5);
  check("Once upon a dime", 9, 5);
  check("Once upon a time", 16, 20);
  check("Once upon a time there was nothing", 26, 40);
  EXPECT_FALSE(store->find_text("Once upo"));
  EXPECT_FALSE(store->find_text(""));
  EXPECT_FALSE(store->find_text("Twice told"));
  KvStoreOptions other = test_options(folder.path());
  other.fingerprint++;
  EXPECT_FALSE(open_store(other)->find_text("Once upon a time"));
}

TEST(KvStore, TurnsAreRememberedByEachKey) {
  const TestFolder folder;
  const std::string keys[] = {"call_1", "call_2"};
  const std::string third[] = {"call_3", std::string("a\0b", 3)};
  {
    const auto store = open_store(test_options(folder.path()));
    store->put_turn(keys, {{1, 2, 3}, "{\"name\": \"x\"}"});
    store->put_turn(third, {{}, ""});
    EXPECT_EQ(store->find_turn("call_2")->tokens, (Tokens{1, 2, 3}));  // before it is written, too
  }
  const auto store = open_store(test_options(folder.path()));
  for (const std::string& key : keys) {
    const auto turn = store->find_turn(key);
    ASSERT_TRUE(turn) << key;
    EXPECT_EQ(turn->tokens, (Tokens{1, 2, 3}));
    EXPECT_EQ(turn->metadata, "{\"name\": \"x\"}");
  }
  EXPECT_TRUE(store->find_turn(third[1]));
  EXPECT_FALSE(store->find_turn("call_4"));
  store->put_turn(std::span(keys, 1), {{9}, "new"});
  EXPECT_EQ(store->find_turn("call_1")->metadata, "new");
  store->flush();
  EXPECT_EQ(store->find_turn("call_1")->metadata, "new");
  EXPECT_EQ(store->find_turn("call_2")->tokens, (Tokens{1, 2, 3}));
}

TEST(KvStore, TurnsAreBoundedLeastRecentlyUsedFirst) {
  const TestFolder folder;
  KvStoreOptions options = test_options(folder.path());
  options.budget_bytes = 8 * 100000;  // turns may have an eighth
  const auto store = open_store(options);
  for (int i = 0; i < 200; i++) {
    const std::string key = std::to_string(i);
    store->put_turn(std::span(&key, 1), {Tokens(250, i), ""});
    if (i == 50) store->flush();
    if (i >= 50) store->find_turn("7");
  }
  store->flush();
  EXPECT_LE(store->stats().n_turns, 100);
  EXPECT_GE(store->stats().n_turns, 90);
  EXPECT_TRUE(store->find_turn("199"));
  EXPECT_TRUE(store->find_turn("7"));
  EXPECT_FALSE(store->find_turn("8"));
}

TEST(KvStore, StatisticsOutliveTheProcess) {
  const TestFolder folder;
  const Tokens tokens = test_tokens(1, 50);
  {
    const auto store = open_store(test_options(folder.path()));
    put(*store, tokens);
    store->flush();
    restore(*store, tokens);
    restore(*store, tokens);
    restore(*store, test_tokens(2, 50));
  }
  const auto store = open_store(test_options(folder.path()));
  const KvStats stats = store->stats();
  EXPECT_EQ(stats.hits, 2);
  EXPECT_EQ(stats.misses, 1);
  EXPECT_EQ(stats.tokens_reused, 100);
  EXPECT_EQ(stats.n_blocks, 6);
  EXPECT_EQ(stats.n_frontiers, 1);
  ASSERT_EQ(store->entries().size(), 1);
  EXPECT_EQ(store->entries()[0].hits, 2);
}

TEST(KvStore, EntriesAndRemoval) {
  const TestFolder folder;
  const auto store = open_store(test_options(folder.path()));
  put(*store, test_tokens(1, 60, 40), 1);
  put(*store, test_tokens(2, 64, 40), 2);
  store->flush();
  auto entries = store->entries();
  ASSERT_EQ(entries.size(), 2);
  std::sort(entries.begin(), entries.end(),
            [](const KvEntry& a, const KvEntry& b) { return a.n_tokens < b.n_tokens; });
  EXPECT_EQ(entries[0].n_blocks, 7);
  EXPECT_EQ(entries[1].n_blocks, 8);
  EXPECT_GT(entries[0].bytes, entries[0].own_bytes);
  const auto detail = store->detail(entries[0].id);
  ASSERT_TRUE(detail.ok()) << detail.status().message();
  EXPECT_EQ(detail->tokens, test_tokens(1, 60, 40));
  EXPECT_EQ(detail->blocks.size(), 7);
  EXPECT_EQ(detail->conversation, 1);
  EXPECT_EQ(store->detail(KvId{1, 2}).status().code(), Code::kUsage);
  const auto hit = store->find(test_tokens(1, 60, 40), 60);
  EXPECT_EQ(store->remove(entries[0].id).status().code(), Code::kFailed);  // in use
  ASSERT_TRUE(store->remove(entries[1].id).ok());
  EXPECT_EQ(store->remove(entries[1].id).status().code(), Code::kUsage);
  EXPECT_EQ(folder.files(".block").size(), 7);
  EXPECT_EQ(restore(*store, test_tokens(1, 60, 40)), 60);
  EXPECT_EQ(restore(*store, test_tokens(2, 64, 40)), 0);
}

// Callers, the writer and eviction at once; what is found must be right.
TEST(KvStore, ManyThreads) {
  const TestFolder folder;
  KvStoreOptions options = test_options(folder.path());
  options.budget_bytes = 4000000;
  const auto store = open_store(options);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 60; i++) {
        const Tokens tokens = test_tokens(random() % 6, 10 + random() % 100, 40);
        restore(*store, tokens);
        put(*store, tokens, random() % 6);
        store->put_text("text " + std::to_string(random() % 10), tokens);
        store->find_text("text 5");
        const std::string key = std::to_string(random() % 50);
        store->put_turn(std::span(&key, 1), {tokens, key});
        if (const auto turn = store->find_turn(key)) {
          EXPECT_EQ(turn->metadata, key);
        }
        if (i % 16 == 0) store->entries();
      }
    });
  }
  for (auto& t : threads) t.join();
  store->flush();
  EXPECT_LE(store->stats().bytes, options.budget_bytes);
  EXPECT_EQ(store->stats().files_damaged, 0);
}

}  // namespace
}  // namespace narwhal
