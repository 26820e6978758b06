// Session: one timeline of tokens and the model state after them.
//
//   NW_ASSIGN(auto session, engine->new_session());
//   NW_TRY(session->sync(prompt_ids));                     // computes only what is new
//   for (;;) {
//     NW_ASSIGN(int32_t id, sampler.sample(session->prediction()));
//     NW_TRY(session->append({&id, 1}));
//   }
//
// Compressed rows are append-only, so any earlier point of a timeline can be returned to: rows past
// it are dropped, and the small frontier (window, compressor carry) comes from the nearest point at
// or before it where one was kept, in memory or on disk; the tokens between are computed again. The
// result is the same bit for bit, on the CPU, as if the timeline had been computed once from the
// start.
//
// A session belongs to one thread at a time and must not outlive its engine. An error leaves the
// timeline at the last whole chunk that was computed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "narwhal/candidates.h"
#include "narwhal/status.h"

namespace narwhal {

// Called between chunks with the tokens done and to do; returning false stops with kCancelled and
// keeps what was computed.
using ProgressFn = std::function<bool(int64_t done, int64_t total)>;

// The logits after the token at `position`; valid during the call.
using LogitsFn = std::function<void(int64_t position, std::span<const float> logits)>;

// Where the reused part of a prompt came from.
struct Reuse {
  enum class Source { kNone, kLive, kMemory, kDisk };
  int64_t n_tokens = 0;  // kept or restored; the rest must be computed
  Source source = Source::kNone;
  double restore_ms = 0;
};

// Why a point of a timeline is worth keeping.
enum class Mark {
  kTurnEnd,  // the conversation goes on from here; the newest few are kept on disk
  kAnchor,   // many conversations begin so (the end of system text and tools): kept on disk until
             // its room is needed
};

class Session {
 public:
  virtual ~Session() = default;

  // Tokens this session may hold, and those it holds.
  virtual int64_t n_ctx() const = 0;
  virtual std::span<const int32_t> tokens() const = 0;

  // Makes the timeline exactly `tokens`: resume() and then append() of the rest. At least one token
  // is computed, so logits() holds afterwards. kUsage: empty, id out of range or longer than
  // n_ctx().
  virtual Status sync(std::span<const int32_t> tokens, const ProgressFn& progress = {}) = 0;
  // What the last sync or resume could keep.
  virtual const Reuse& reuse() const = 0;
  int64_t n_reused() const { return reuse().n_tokens; }

  // Moves to the longest prefix of `tokens` that can be had without computing, looking at this
  // timeline, its kept frontiers, other sessions of the engine and the disk store; at most
  // tokens.size() - 1, so that the logits of the last token will be computed. Tokens past it are
  // forgotten.
  virtual Result<Reuse> resume(std::span<const int32_t> tokens) = 0;

  // Adds tokens at the end, in one chunk or several. `each`, when given, receives the logits after
  // every added token.
  virtual Status append(std::span<const int32_t> tokens, const ProgressFn& progress = {},
                        const LogitsFn& each = {}) = 0;

  // Goes back to the first n_tokens tokens, computing the few after the nearest kept frontier
  // again.
  virtual Status rewind(int64_t n_tokens, const ProgressFn& progress = {}) = 0;

  // A second session with the same timeline; pages are shared until one of them changes.
  virtual Result<std::unique_ptr<Session>> fork() = 0;

  // Keeps a frontier at this point for as long as the session lives: call it at turn ends and other
  // points that a later prompt is likely to return to. With a disk store it is written there, too.
  virtual void mark(Mark why) = 0;

  // How many of n_left tokens to append next when appending in steps of at most `at_most`
  // (Engine::step): cuts fall where a frontier is worth keeping. n_left may end at a point that is
  // to be marked.
  virtual int64_t next_cut(int64_t n_left, int64_t at_most) const = 0;

  // The whole timeline as one file, and back; the file belongs to one model and KV precision
  // (kBadInput for any other). restore() replaces this session's timeline.
  virtual Status snapshot(const std::string& path) const = 0;
  virtual Status restore(const std::string& path) = 0;

  // What may come after the last token; valid until the next call that changes the timeline. None
  // (n is 0) before the first token and where only state was restored.
  virtual const Candidates& candidates() const = 0;
  // All n_vocab logits, in the same way; empty where there are no candidates. The first call
  // after a step brings them from the device, half a megabyte for V4 Flash, waiting for a step
  // that other sessions may be in.
  virtual std::span<const float> logits() const = 0;
  // Both, for a sampler.
  Prediction prediction() const {
    return {candidates(), [this] { return logits(); }};
  }
};

}  // namespace narwhal
