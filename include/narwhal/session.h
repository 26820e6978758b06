// Session: one timeline of tokens and the model state after them.
//
//   NW_ASSIGN(auto session, engine->new_session());
//   NW_TRY(session->sync(prompt_ids));                     // computes only what is new
//   for (;;) {
//     NW_ASSIGN(int32_t id, sampler.sample(session->logits()));
//     NW_TRY(session->append({&id, 1}));
//   }
//
// A session belongs to one thread at a time and must not outlive its engine. An error leaves the
// timeline at the last whole chunk that was computed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "narwhal/status.h"

namespace narwhal {

// Called between chunks with the tokens done and to do; returning false stops with kCancelled and
// keeps what was computed.
using ProgressFn = std::function<bool(int64_t done, int64_t total)>;

// The logits after the token at `position`; valid during the call.
using LogitsFn = std::function<void(int64_t position, std::span<const float> logits)>;

class Session {
 public:
  virtual ~Session() = default;

  // Tokens this session may hold, and those it holds.
  virtual int64_t n_ctx() const = 0;
  virtual std::span<const int32_t> tokens() const = 0;

  // Makes the timeline exactly `tokens`: keeps as much of the common prefix as it can resume from,
  // computes the rest. The number of tokens kept is in n_reused(). At least one token is computed,
  // so logits() holds afterwards. kUsage: empty, id out of range or longer than n_ctx().
  virtual Status sync(std::span<const int32_t> tokens, const ProgressFn& progress = {}) = 0;
  virtual int64_t n_reused() const = 0;

  // Adds tokens at the end, in one chunk or several: the result is the same bit for bit on the CPU.
  // `each`, when given, receives the logits after every added token.
  virtual Status append(std::span<const int32_t> tokens, const ProgressFn& progress = {},
                        const LogitsFn& each = {}) = 0;

  // Logits after the last token, n_vocab values; valid until the next call that changes the
  // timeline. Empty before the first token.
  virtual std::span<const float> logits() const = 0;
};

}  // namespace narwhal
