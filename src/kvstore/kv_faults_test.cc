// What the disk, other users and damage can do to a store.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <random>

#include "kvstore/kv_test_util.h"

namespace narwhal {
namespace {

namespace fs = std::filesystem;

// A disk of limited size, and calls that fail on demand.
class FaultyFiles : public UnsyncedFiles {
 public:
  std::atomic<int64_t> capacity{int64_t{1} << 40};
  std::atomic<int> calls_until_fault{-1};  // < 0: none
  std::atomic<bool> stays_broken{false};   // after the fault every call fails, as after a crash
  std::atomic<int> error{EIO};
  std::atomic<int> n_calls{0};

  int open_new(const std::string& path) override {
    return fails() ? -error : UnsyncedFiles::open_new(path);
  }
  ssize_t write(int fd, const void* data, size_t n) override {
    if (fails()) {
      // Half of it arrives.
      const ssize_t ignored = UnsyncedFiles::write(fd, data, n / 2);
      return ignored < 0 ? ignored : -error;
    }
    if (capacity < static_cast<int64_t>(n)) return -ENOSPC;
    n = std::min<size_t>(n, 10000);
    capacity -= static_cast<int64_t>(n);
    return UnsyncedFiles::write(fd, data, n);
  }
  int sync(int fd) override { return fails() ? -error : UnsyncedFiles::sync(fd); }
  int rename(const std::string& from, const std::string& to) override {
    return fails() ? -error : UnsyncedFiles::rename(from, to);
  }
  int remove(const std::string& path) override {
    if (fails()) return -error;
    struct stat st {};
    if (::stat(path.c_str(), &st) == 0) capacity += st.st_size;
    return UnsyncedFiles::remove(path);
  }

 private:
  bool fails() {
    n_calls++;
    if (calls_until_fault < 0) return false;
    if (calls_until_fault == 0) {
      if (!stays_broken) calls_until_fault = -1;
      return true;
    }
    calls_until_fault--;
    return false;
  }
};

// 3 blocks and a frontier with a tail.
const Tokens kTokens = test_tokens(1, 30);

void make_store(const std::string& dir) { put(*open_store(test_options(dir)), kTokens); }

// Whatever happened to the folder: nothing wrong comes out, and it can be used again.
void expect_usable(const KvStoreOptions& options, std::string_view what) {
  const auto store = open_store(options);
  ASSERT_TRUE(store) << what;
  restore(*store, kTokens);
  store->flush();  // what was found damaged is removed
  put(*store, kTokens);
  store->flush();
  EXPECT_EQ(restore(*store, kTokens), 30) << what;
}

std::string tables_of(const TestFolder& folder) { return folder.path() + "/index.sqlite"; }

TEST(KvFaults, FlippedBits) {
  const TestFolder folder;
  make_store(folder.path());
  std::mt19937 random(1);
  auto files = folder.files(".block");
  const auto frontiers = folder.files(".frontier");
  files.insert(files.end(), frontiers.begin(), frontiers.end());
  ASSERT_EQ(files.size(), 4);
  for (const std::string& path : files) {
    const std::string good = read_all(path);
    for (int i = 0; i < 60; i++) {
      std::string bad = good;
      const size_t at = random() % (i < 40 ? 160 : bad.size());
      bad[at] ^= static_cast<char>(1 << random() % 8);
      write_all(path, bad);
      expect_usable(test_options(folder.path()), path + " byte " + std::to_string(at));
    }
    EXPECT_EQ(read_all(path), good);
  }
}

TEST(KvFaults, TruncatedMissingAndSwappedFiles) {
  const TestFolder folder;
  make_store(folder.path());
  std::mt19937 random(1);
  auto files = folder.files(".block");
  const auto frontiers = folder.files(".frontier");
  files.insert(files.end(), frontiers.begin(), frontiers.end());
  for (const std::string& path : files) {
    const std::string good = read_all(path);
    for (size_t n : {size_t{0}, size_t{1}, size_t{111}, size_t{130}, good.size() - 1}) {
      write_all(path, good.substr(0, n));
      expect_usable(test_options(folder.path()), path + " cut at " + std::to_string(n));
    }
    write_all(path, good + "x");
    expect_usable(test_options(folder.path()), path + " longer");
    fs::remove(path);
    expect_usable(test_options(folder.path()), path + " removed");
    write_all(path, read_all(files[0]));
    expect_usable(test_options(folder.path()), path + " another's content");
  }
}

// The same while the store is open: found out when read.
TEST(KvFaults, DamageWhileOpen) {
  const TestFolder folder;
  const auto store = open_store(test_options(folder.path()));
  for (const char* suffix : {".block", ".frontier"}) {
    put(*store, kTokens);
    store->flush();
    const std::string path = folder.files(suffix).back();
    std::string bytes = read_all(path);
    bytes[bytes.size() - 5] ^= 1;
    write_all(path, bytes);
    EXPECT_EQ(restore(*store, kTokens), 0);
    EXPECT_EQ(store->find(kTokens, 30), std::nullopt) << "offered again";
    put(*store, kTokens);
    store->flush();
    EXPECT_EQ(restore(*store, kTokens), 30);
    fs::remove(folder.files(suffix).back());
    EXPECT_EQ(restore(*store, kTokens), 0);
    store->flush();
  }
}

TEST(KvFaults, ADiscardedHitIsNotOfferedAgain) {
  const TestFolder folder;
  const auto store = open_store(test_options(folder.path()));
  put(*store, std::span(kTokens).first(20));
  put(*store, kTokens);
  store->flush();
  store->discard(*store->find(kTokens, 30));  // the computation after it failed
  EXPECT_EQ(restore(*store, kTokens), 20);
  EXPECT_EQ(folder.files(".block").size(), 3);
}

TEST(KvFaults, VerifyNamesAndRemovesWhatIsDamaged) {
  const TestFolder folder;
  make_store(folder.path());
  const std::string path = folder.files(".block")[1];
  std::string bytes = read_all(path);
  bytes.back() ^= 1;
  write_all(path, bytes);
  const auto store = open_store(test_options(folder.path()));
  const auto check = store->verify();
  ASSERT_TRUE(check.ok());
  EXPECT_EQ(check->n_files, 4);
  ASSERT_EQ(check->faults.size(), 1);
  EXPECT_TRUE(check->faults[0].starts_with(fs::path(path).filename().string())) << check->faults[0];
  EXPECT_EQ(store->verify()->faults.size(), 0);
  EXPECT_EQ(store->stats().files_damaged, 1);
}

TEST(KvFaults, ALostIndexIsMadeAgain) {
  const TestFolder folder;
  make_store(folder.path());
  for (const char* suffix : {"", "-wal", "-shm"}) fs::remove(tables_of(folder) + suffix);
  const auto store = open_store(test_options(folder.path()));
  EXPECT_EQ(restore(*store, kTokens), 30);
  EXPECT_EQ(store->stats().files_written, 0);
}

TEST(KvFaults, ADamagedIndexIsMadeAgain) {
  const TestFolder folder;
  make_store(folder.path());
  const std::string good = read_all(tables_of(folder));
  std::mt19937 random(1);
  for (int i = 0; i < 60; i++) {
    std::string bad = good;
    for (int k = 0; k < 1 + i; k++) {
      bad[random() % bad.size()] ^= static_cast<char>(1 << random() % 8);
    }
    if (i % 10 == 0) bad.resize(random() % bad.size());
    if (i % 10 == 1) bad = std::string(5000, 'x');
    write_all(tables_of(folder), bad);
    auto opened = KvStore::open(test_options(folder.path()));
    if (!opened.ok()) {  // looks like the schema of a newer program
      EXPECT_EQ(opened.status().code(), Code::kBadInput) << opened.status().message();
      fs::remove(tables_of(folder));
      continue;
    }
    for (int tries = 0; restore(**opened, kTokens) != 30; tries++) {
      ASSERT_LT(tries, 3) << "round " << i;
      put(**opened, kTokens);
      (*opened)->flush();
    }
  }
}

TEST(KvFaults, ANewerSchemaIsRefusedAndLeftAlone) {
  const TestFolder folder;
  make_store(folder.path());
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(tables_of(folder).c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "PRAGMA user_version = 2", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  const auto store = KvStore::open(test_options(folder.path()));
  ASSERT_FALSE(store.ok());
  EXPECT_EQ(store.status().code(), Code::kBadInput);
  EXPECT_NE(store.status().message().find("schema 2"), std::string::npos);
  EXPECT_EQ(folder.files(".block").size(), 3);
}

// Every call that changes a file fails once; the store goes on, and nothing wrong is left.
TEST(KvFaults, EveryCallMayFail) {
  int n_calls = 0;
  {
    const TestFolder folder;
    FaultyFiles files;
    KvStoreOptions options = test_options(folder.path());
    options.files = &files;
    put(*open_store(options), kTokens);
    n_calls = files.n_calls;
  }
  ASSERT_GT(n_calls, 15);
  for (bool crash : {false, true}) {
    for (int k = 0; k < n_calls; k++) {
      const TestFolder folder;
      FaultyFiles files;
      files.calls_until_fault = k;
      files.stays_broken = crash;
      KvStoreOptions options = test_options(folder.path());
      options.files = &files;
      if (auto store = KvStore::open(options); store.ok()) {
        put(**store, kTokens);
        (*store)->flush();
        restore(**store, kTokens);
      }
      expect_usable(test_options(folder.path()), "call " + std::to_string(k));
      EXPECT_EQ(folder.files("-0").size() + folder.files("-1").size(), 0) << "temporary files";
    }
  }
}

TEST(KvFaults, AFullDiskPausesWritingWithOneLine) {
  const TestFolder folder;
  FaultyFiles files;
  files.capacity = 2 * static_cast<int64_t>(kTestBlockBytes);
  std::mutex mutex;
  std::vector<std::string> lines;
  KvStoreOptions options = test_options(folder.path());
  options.files = &files;
  options.log = [&](std::string_view line) {
    const std::lock_guard guard(mutex);
    lines.emplace_back(line);
  };
  const auto store = open_store(options);
  for (uint64_t c = 0; c < 5; c++) put(*store, test_tokens(c, 100), c);
  store->flush();
  const KvStats stats = store->stats();
  EXPECT_TRUE(stats.paused);
  EXPECT_GT(stats.dropped_no_space, 0);
  ASSERT_EQ(lines.size(), 1);
  EXPECT_NE(lines[0].find("No space left on device"), std::string::npos) << lines[0];
  EXPECT_EQ(store->stored_prefix(test_tokens(0, 100)), 8);
}

// Others filled the disk: the least valuable of ours makes room.
TEST(KvFaults, AFullDiskEvictsOnce) {
  const TestFolder folder;
  FaultyFiles files;
  KvStoreOptions options = test_options(folder.path());
  options.files = &files;
  const auto store = open_store(options);
  for (uint64_t c = 0; c < 5; c++) put(*store, test_tokens(c, 40), c);
  store->flush();
  files.capacity = 100;
  put(*store, kTokens);
  store->flush();
  EXPECT_EQ(restore(*store, kTokens), 30);
  EXPECT_GT(store->stats().files_evicted, 0);
  EXPECT_FALSE(store->stats().paused);
}

TEST(KvFaults, AReadOnlyFolderIsRead) {
  const TestFolder folder;
  make_store(folder.path());
  FaultyFiles files;
  files.calls_until_fault = 0;
  files.stays_broken = true;
  files.error = EROFS;
  KvStoreOptions options = test_options(folder.path());
  options.files = &files;
  const auto store = open_store(options);
  EXPECT_TRUE(store->stats().read_only);
  EXPECT_EQ(restore(*store, kTokens), 30);
  put(*store, test_tokens(2, 40));
  store->flush();
  EXPECT_EQ(store->find(test_tokens(2, 40), 40), std::nullopt);
  EXPECT_FALSE(store->wants_frontier(kTokens, FrontierKind::kAnchor));
  EXPECT_EQ(store->entries().size(), 1);
  store->discard(*store->find(kTokens, 30));
  EXPECT_EQ(store->find(kTokens, 30), std::nullopt);
  EXPECT_EQ(folder.files(".frontier").size(), 1);
}

TEST(KvFaults, FoldersOthersCouldReadAreRefused) {
  const TestFolder folder;
  const auto refused = [](const std::string& path, std::string_view why) {
    const auto store = KvStore::open(test_options(path));
    ASSERT_FALSE(store.ok()) << path;
    EXPECT_EQ(store.status().code(), Code::kBadInput);
    EXPECT_NE(store.status().message().find(why), std::string::npos) << store.status().message();
  };
  const std::string dir = folder.path() + "/kv";
  make_store(dir);
  fs::create_directory_symlink(dir, folder.path() + "/link");
  refused(folder.path() + "/link", "symbolic link");
  refused(folder.path() + "/link/", "symbolic link");
  write_all(folder.path() + "/file", "x");
  refused(folder.path() + "/file", "not a folder");
  ::chmod(dir.c_str(), 0750);
  refused(dir, "chmod 700");
  ::chmod(dir.c_str(), 0700);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(dir.c_str(), 1, 1), 0);
    refused(dir, "belongs to user 1");
  }
  KvStoreOptions options = test_options(folder.path() + "/missing");
  options.create = false;
  EXPECT_EQ(KvStore::open(options).status().code(), Code::kBadInput);
  EXPECT_FALSE(fs::exists(options.dir));
}

TEST(KvFaults, OnlyTheOwnerMayReadTheFiles) {
  const TestFolder folder;
  const std::string dir = folder.path() + "/kv";
  const mode_t old = ::umask(0);
  const auto store = open_store(test_options(dir));
  put(*store, kTokens);
  store->flush();
  ::umask(old);
  struct stat st {};
  ASSERT_EQ(::stat(dir.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700);
  int n_files = 0;
  for (const auto& e : fs::directory_iterator(dir)) {
    ASSERT_EQ(::stat(e.path().c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600) << e.path();
    n_files++;
  }
  EXPECT_GE(n_files, 7);
  const std::string empty = folder.path() + "/empty";  // made by the user with the usual mode
  fs::create_directory(empty);
  ::chmod(empty.c_str(), 0755);
  ASSERT_TRUE(open_store(test_options(empty)));
  ASSERT_EQ(::stat(empty.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700);
}

TEST(KvFaults, StaleTemporariesAreRemovedLiveOnesStay) {
  const TestFolder folder;
  write_all(folder.path() + "/tmp-1-1", "left behind");
  const int live = ::open((folder.path() + "/tmp-1-2").c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_EQ(::flock(live, LOCK_EX), 0);
  const auto store = open_store(test_options(folder.path()));
  EXPECT_FALSE(fs::exists(folder.path() + "/tmp-1-1"));
  EXPECT_TRUE(fs::exists(folder.path() + "/tmp-1-2"));
  ::close(live);
}

TEST(KvFaults, TwoStoresShareAFolder) {
  const TestFolder folder;
  const auto a = open_store(test_options(folder.path())),
             b = open_store(test_options(folder.path()));
  put(*a, kTokens);
  a->flush();
  EXPECT_EQ(restore(*b, kTokens), 30);
  put(*b, test_tokens(1, 60));
  put(*a, test_tokens(1, 62));
  a->flush();
  b->flush();
  EXPECT_EQ(restore(*a, test_tokens(1, 60)), 60);
  EXPECT_EQ(restore(*b, test_tokens(1, 62)), 62);
  EXPECT_EQ(folder.files(".block").size(), 7);
  // What one removes, the other writes again.
  for (const KvEntry& e : a->entries()) ASSERT_TRUE(a->remove(e.id).ok());
  EXPECT_EQ(b->stored_prefix(kTokens), 24);  // it cannot know
  for (int i = 0; i < 2; i++) {
    put(*b, kTokens);
    b->flush();
  }
  EXPECT_EQ(restore(*b, kTokens), 30);
  EXPECT_EQ(a->find(test_tokens(1, 60), 60)->n_tokens(), 30);
}

// Eviction keeps the budget, and what is in use.
TEST(KvFaults, EvictionSparesWhatIsInUse) {
  const TestFolder folder;
  KvStoreOptions options = test_options(folder.path());
  options.budget_bytes = 4000000;
  const auto store = open_store(options), other = open_store(options);
  put(*store, kTokens);
  store->flush();
  const auto hit = other->find(kTokens, 30);
  ASSERT_TRUE(hit);
  for (uint64_t c = 2; c < 60; c++) {
    const Tokens tokens = test_tokens(c, 40);
    put(*store, tokens, c);
    store->flush();
    EXPECT_EQ(restore(*store, tokens), 40) << c;
    EXPECT_LE(store->stats().bytes, options.budget_bytes);
  }
  EXPECT_GT(store->stats().files_evicted, 50);
  EXPECT_EQ(read_hit(*other, *hit, kTokens), ReadBack::kRight);
  // As many as fit are there.
  EXPECT_GT(store->entries().size(), 8);
}

TEST(KvFaults, AConversationLargerThanTheBudgetBlocksNothing) {
  const TestFolder folder;
  KvStoreOptions options = test_options(folder.path());
  options.budget_bytes = 2000000;
  const auto store = open_store(options);
  put(*store, test_tokens(1, 1000), 1);
  store->flush();
  EXPECT_LE(store->stats().bytes, options.budget_bytes);
  EXPECT_EQ(restore(*store, test_tokens(1, 1000)), 0);
  put(*store, kTokens, 2);
  store->flush();
  EXPECT_EQ(restore(*store, kTokens), 30);
}

TEST(KvFaults, GarbageCollectionKeepsTheSmallerBudget) {
  const TestFolder folder;
  {
    const auto store = open_store(test_options(folder.path()));
    for (uint64_t c = 0; c < 30; c++) put(*store, test_tokens(c, 40), c);
  }
  KvStoreOptions options = test_options(folder.path());
  options.budget_bytes = 2000000;
  const auto store = open_store(options);
  ASSERT_TRUE(store->collect_garbage().ok());
  EXPECT_LE(store->stats().bytes, options.budget_bytes);
  EXPECT_GT(store->entries().size(), 3);
  EXPECT_EQ(store->verify()->faults.size(), 0);
}

}  // namespace
}  // namespace narwhal
