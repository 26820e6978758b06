// Timeline: the Session of include/narwhal/session.h over one slot of the KV cache.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "kvstore/kv_store.h"
#include "narwhal/engine.h"
#include "narwhal/session.h"
#include "session/frontiers.h"
#include "session/kv_cache.h"
#include "session/runner.h"

namespace narwhal {

class Timeline;

// What all sessions of an engine share. The mutex guards everything here and, while a step or a
// change of state runs, the timelines: sessions take turns.
struct SessionHost {
  const Config& config;
  const KvLayout& layout;
  Backend& backend;
  Runner& runner;
  KvCache& cache;
  int64_t n_ctx = 0;
  int chunk = 0;                // rows of a prefill step
  int64_t frontier_budget = 0;  // bytes of kept frontiers per session
  uint64_t fingerprint = 0;     // of model and state format
  KvStore* store = nullptr;     // prefixes on disk; may be null
  uint64_t next_conversation = 1;
  // Computed since the store was last told how long prompts take.
  int64_t prefill_tokens = 0;
  double prefill_seconds = 0;
  std::vector<Timeline*> live = {};
  std::mutex mutex = {};
};

class Timeline : public Session {
 public:
  static Result<std::unique_ptr<Timeline>> create(SessionHost& host);
  ~Timeline() override;

  int64_t n_ctx() const override { return host_.n_ctx; }
  std::span<const int32_t> tokens() const override { return tokens_; }
  const Reuse& reuse() const override { return reuse_; }
  const Candidates& candidates() const override { return best_; }
  std::span<const float> logits() const override;

  Status sync(std::span<const int32_t> tokens, const ProgressFn& progress) override;
  Result<Reuse> resume(std::span<const int32_t> tokens) override;
  Status append(std::span<const int32_t> tokens, const ProgressFn& progress,
                const LogitsFn& each) override;
  Status rewind(int64_t n_tokens, const ProgressFn& progress) override;
  Result<std::unique_ptr<Session>> fork() override;
  void mark(Mark why) override;
  int64_t next_cut(int64_t n_left, int64_t at_most) const override;
  Status snapshot(const std::string& path) const override;
  Status restore(const std::string& path) override;

  // Bytes of the frontiers that all timelines keep; those they share count once.
  static int64_t kept_bytes(SessionHost& host);

  // One pass for several timelines of the same host (Engine::step).
  static Status step(SessionHost& host, std::span<const Engine::Append> parts);

 private:
  // A point to continue from: this timeline itself, one of its frontiers, or another timeline's.
  struct Origin {
    int64_t position = 0;
    Reuse::Source source = Reuse::Source::kNone;
    Timeline* from = nullptr;
    const KeptFrontier* frontier = nullptr;  // null: the rings as they stand
  };

  Timeline(SessionHost& host, int slot)
      : host_(host),
        slot_(slot),
        conversation_(host.next_conversation++),
        frontiers_(host.frontier_budget) {}

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  Status check(std::span<const int32_t> tokens, int64_t before) const;
  Status extend(std::span<const int32_t> tokens, const ProgressFn& progress, const LogitsFn& each);

  Origin best_origin(std::span<const int32_t> tokens, int64_t limit);
  void consider(Origin& best, std::span<const int32_t> tokens, int64_t limit);
  Status move_to(const Origin& origin, std::span<const int32_t> tokens);
  static void run_step(SessionHost& host, std::span<const StepPart> parts,
                       std::span<Timeline* const> of);
  void added(std::span<const int32_t> tokens);
  void take_logits(int row);
  void fetch_logits() const;
  void forget_logits();
  void truncate(int64_t n_tokens);
  void keep_frontier(bool marked);

  // The disk (persist.cc).
  bool restore_from(KvStore::Hit& hit, std::span<const int32_t> tokens);
  void persist_blocks();
  void persist_frontier(FrontierKind kind);
  static void note_prefill(SessionHost& host, int64_t n_tokens, double seconds);

  std::shared_ptr<const std::vector<std::byte>> image() const;

  SessionHost& host_;
  int slot_;
  uint64_t conversation_;
  Reuse reuse_;
  // The rings can be returned to any position from loaded_, where they were last filled from an
  // image, or kSpareEntries before newest_, one past the highest position they have seen, whichever
  // is later.
  int64_t loaded_ = 0, newest_ = 0;
  std::vector<int32_t> tokens_;
  Candidates best_;
  // Logits after the last token: the runner's row, until somebody asks or another step comes.
  mutable int row_ = -1;
  mutable std::vector<float> logits_;
  Frontiers frontiers_;
};

}  // namespace narwhal
