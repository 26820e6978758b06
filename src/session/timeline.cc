#include "session/timeline.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace narwhal {
namespace {

class Timeline : public Session {
 public:
  Timeline(SessionHost& host, int slot) : host_(host), slot_(slot) {}
  ~Timeline() override {
    std::lock_guard lock(host_.mutex);
    host_.cache.release(slot_);
  }

  int64_t n_ctx() const override { return host_.n_ctx; }
  std::span<const int32_t> tokens() const override { return tokens_; }
  int64_t n_reused() const override { return n_reused_; }
  std::span<const float> logits() const override { return logits_; }

  Status sync(std::span<const int32_t> tokens, const ProgressFn& progress) override {
    NW_TRY(check(tokens, 0));
    if (tokens.empty()) return usage("the prompt is empty; give at least one token");
    const auto common = static_cast<int64_t>(
        std::mismatch(tokens.begin(), tokens.end(), tokens_.begin(), tokens_.end()).first -
        tokens.begin());
    n_reused_ = resume_point(std::min<int64_t>(common, static_cast<int64_t>(tokens.size()) - 1));
    truncate(n_reused_);
    return extend(tokens.subspan(n_reused_), progress, {});
  }

  Status append(std::span<const int32_t> tokens, const ProgressFn& progress,
                const LogitsFn& each) override {
    NW_TRY(check(tokens, size()));
    return extend(tokens, progress, each);
  }

 private:
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }

  Status check(std::span<const int32_t> tokens, int64_t before) const {
    for (size_t i = 0; i < tokens.size(); i++)
      if (tokens[i] < 0 || tokens[i] >= host_.n_vocab)
        return usage(fmt::format("token id {} at position {}, expected 0 to {}", tokens[i],
                                 before + i, host_.n_vocab - 1));
    if (before + static_cast<int64_t>(tokens.size()) > host_.n_ctx)
      return usage(
          fmt::format("{} tokens do not fit a context of {}; raise --ctx or shorten the prompt",
                      before + tokens.size(), host_.n_ctx));
    return ok_status();
  }

  // The largest position not past `wanted` whose state is still in the rings: they look back far
  // enough from any of the newest kSpareEntries positions.
  int64_t resume_point(int64_t wanted) const {
    return wanted >= newest_ - kSpareEntries ? wanted : 0;
  }

  void truncate(int64_t n_tokens) {
    tokens_.resize(n_tokens);
    if (n_tokens == 0) newest_ = 0;
    logits_.clear();
  }

  Status extend(std::span<const int32_t> tokens, const ProgressFn& progress, const LogitsFn& each) {
    const auto total = static_cast<int64_t>(tokens.size());
    const int64_t limit = each ? std::min(host_.chunk, host_.runner.max_logits()) : host_.chunk;
    for (int64_t done = 0; done < total;) {
      const int64_t n = std::min(limit, total - done);
      NW_TRY(step(tokens.subspan(done, n), done + n == total, each));
      done += n;
      if (progress && !progress(done, total) && done < total) return cancelled();
    }
    return ok_status();
  }

  Status step(std::span<const int32_t> tokens, bool last, const LogitsFn& each) {
    std::lock_guard lock(host_.mutex);
    const int64_t first = size();
    NW_TRY(host_.cache.resize(slot_, first + static_cast<int64_t>(tokens.size())));
    const StepPart part{slot_, first, tokens,
                        each   ? LogitsOf::kAll
                        : last ? LogitsOf::kLast
                               : LogitsOf::kNone};
    host_.runner.step({&part, 1}, host_.cache.memory());
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    newest_ = std::max(newest_, size());
    logits_.clear();
    for (size_t i = 0; each && i < tokens.size(); i++)
      each(first + static_cast<int64_t>(i), host_.runner.logits(static_cast<int>(i)));
    if (last) {
      const auto row = host_.runner.logits(each ? static_cast<int>(tokens.size()) - 1 : 0);
      logits_.assign(row.begin(), row.end());
    }
    return ok_status();
  }

  SessionHost& host_;
  int slot_;
  int64_t n_reused_ = 0;
  int64_t newest_ = 0;  // one past the highest position that the rings have seen
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;
};

}  // namespace

Result<std::unique_ptr<Session>> make_session(SessionHost& host) {
  std::lock_guard lock(host.mutex);
  NW_ASSIGN(const int slot, host.cache.acquire());
  return std::unique_ptr<Session>(std::make_unique<Timeline>(host, slot));
}

}  // namespace narwhal
