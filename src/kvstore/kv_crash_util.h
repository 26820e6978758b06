// Killing writers of a shared folder at random moments, with readers at work. For the test of this
// room and for bench/crash.sh, which does it a thousand times.
#pragma once

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <thread>

#include "kvstore/kv_samples.h"

namespace narwhal {

// Counted by all processes in shared memory.
struct CrashCounts {
  std::atomic<int64_t> kills{0};
  std::atomic<int64_t> right{0};     // restores that gave back what was written
  std::atomic<int64_t> gone{0};      // found, then evicted before it was read
  std::atomic<int64_t> wrong{0};     // restores that gave anything else
  std::atomic<int64_t> unusable{0};  // the store could not be opened or did not store
  std::atomic<int64_t> damaged{0};   // files whose checksum failed after a kill
  std::atomic<int64_t> written{0};   // conversations handed to a store
  std::atomic<bool> stop{false};
};

class CrashRun {
 public:
  explicit CrashRun(std::string dir) : dir_(std::move(dir)) {
    void* p = ::mmap(nullptr, sizeof(CrashCounts), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    counts_ = new (p) CrashCounts;
  }
  ~CrashRun() { ::munmap(counts_, sizeof(CrashCounts)); }
  CrashRun(const CrashRun&) = delete;
  CrashRun& operator=(const CrashRun&) = delete;

  const CrashCounts& counts() const { return *counts_; }

  // Kills a writer n times, checking the folder after every `check_every` kills. The calling
  // process must have no other threads.
  void run(int n, int n_readers, int check_every, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<pid_t> readers(n_readers);
    for (auto& pid : readers) pid = start([&, s = random()] { read(s); });
    for (int i = 0; i < n; i++) {
      const int64_t before = counts_->written;
      const pid_t writer = start([&, s = random()] { write(s); });
      // Mostly among its writes, sometimes while it opens the store.
      if (random() % 4 != 0) wait_for_write(before);
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 30000));
      kill_and_wait(writer);
      counts_->kills++;
      if (!readers.empty() && random() % 8 == 0) {  // readers hold locks, too
        auto& reader = readers[random() % readers.size()];
        kill_and_wait(reader);
        reader = start([&, s = random()] { read(s); });
      }
      if ((i + 1) % check_every == 0) wait_for(start([&] { check(); }), counts_->unusable);
    }
    counts_->stop = true;
    for (const pid_t pid : readers) wait_for(pid, counts_->unusable);
  }

 private:
  template <class F>
  static pid_t start(F&& work) {
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    work();
    ::_exit(0);
  }
  void wait_for_write(int64_t before) const {
    for (int ms = 0; counts_->written == before && ms < 20000; ms++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  static void kill_and_wait(pid_t pid) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  static void wait_for(pid_t pid, std::atomic<int64_t>& faults) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) faults++;
  }

  std::unique_ptr<KvStore> open() {
    KvStoreOptions options = test_options(dir_);
    options.budget_bytes = 4000000;  // a dozen conversations, so that every writer evicts
    auto store = KvStore::open(options);
    if (store.ok()) return *std::move(store);
    fmt::print(stderr, "{}\n", store.status().message());
    counts_->unusable++;
    ::_exit(1);
  }

  static Tokens conversation(std::mt19937_64& random) {
    return test_tokens(random() % 12, 16 + random() % 80, 40);
  }

  void write(uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto store = open();
    for (;;) {
      const Tokens tokens = conversation(random);
      restore(*store, tokens);
      put(*store, tokens, random() % 12, static_cast<FrontierKind>(random() % 3));
      store->put_text("text " + std::to_string(random() % 5), tokens);
      const std::string key = std::to_string(random() % 100);
      store->put_turn(std::span(&key, 1), {tokens, key});
      counts_->written++;
      if (random() % 4 == 0) store->flush();
    }
  }

  void read(uint64_t seed) {
    std::mt19937_64 random(seed);
    while (!counts_->stop) {
      const auto store = open();
      for (int i = 0; i < 100 && !counts_->stop; i++) restore(*store, conversation(random));
    }
  }

  void restore(KvStore& store, std::span<const int32_t> tokens) {
    const auto hit = store.find(tokens, static_cast<int64_t>(tokens.size()));
    if (!hit) return;
    const ReadBack result = read_hit(store, *hit, tokens);
    (result == ReadBack::kRight  ? counts_->right
     : result == ReadBack::kGone ? counts_->gone
                                 : counts_->wrong)++;
    if (result != ReadBack::kRight) store.discard(*hit);
  }

  // A fresh process: everything there is whole, and new things can be stored and found.
  void check() {
    const auto store = open();
    const auto found = store->verify();
    if (!found.ok() || !found->faults.empty()) counts_->damaged++;
    const Tokens tokens = test_tokens(99, 50, 40);
    for (int tries = 0; tries < 3; tries++) {
      put(*store, tokens, 99);
      store->flush();
      const auto hit = store->find(tokens, 50);
      if (hit && hit->n_tokens() == 50 && read_hit(*store, *hit, tokens) == ReadBack::kRight)
        return;
    }
    counts_->unusable++;
  }

  const std::string dir_;
  CrashCounts* counts_ = nullptr;
};

}  // namespace narwhal
