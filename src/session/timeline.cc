#include "session/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "base/check.h"
#include "base/prefix.h"
#include "session/state_image.h"

namespace narwhal {
namespace {

constexpr int64_t kFrontierGrain =
    128;  // frontiers are smallest at multiples of the longest window
constexpr int64_t kFrontierStride = 2048;  // and are kept at least this often along a prefill

int64_t floor_to(int64_t v, int64_t grain) { return v / grain * grain; }

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Result<std::unique_ptr<Timeline>> Timeline::create(SessionHost& host) {
  std::lock_guard lock(host.mutex);
  NW_ASSIGN(const int slot, host.cache.acquire());
  std::unique_ptr<Timeline> timeline(new Timeline(host, slot));
  host.live.push_back(timeline.get());
  return timeline;
}

Timeline::~Timeline() {
  std::lock_guard lock(host_.mutex);
  persist_frontier(FrontierKind::kTurnEnd);
  host_.cache.release(slot_);
  std::erase(host_.live, this);
}

Status Timeline::check(std::span<const int32_t> tokens, int64_t before) const {
  const int n_vocab = host_.config.n_vocab;
  for (size_t i = 0; i < tokens.size(); i++)
    if (tokens[i] < 0 || tokens[i] >= n_vocab)
      return usage(fmt::format("token id {} at position {}, expected 0 to {}", tokens[i],
                               before + i, n_vocab - 1));
  if (before + static_cast<int64_t>(tokens.size()) > host_.n_ctx)
    return usage(
        fmt::format("{} tokens do not fit a context of {}; raise --ctx or shorten the prompt",
                    before + tokens.size(), host_.n_ctx));
  return ok_status();
}

Status Timeline::sync(std::span<const int32_t> tokens, const ProgressFn& progress) {
  NW_ASSIGN(const Reuse kept, resume(tokens));
  return extend(tokens.subspan(kept.n_tokens), progress, {});
}

Result<Reuse> Timeline::resume(std::span<const int32_t> tokens) {
  if (tokens.empty()) return usage("the prompt is empty; give at least one token");
  NW_TRY(check(tokens, 0));
  const auto start = std::chrono::steady_clock::now();
  const auto limit = static_cast<int64_t>(tokens.size()) - 1;
  auto hit = host_.store ? host_.store->find(tokens, limit) : std::nullopt;
  std::unique_lock lock(host_.mutex);
  Origin origin = best_origin(tokens, limit);
  bool from_disk = hit && hit->n_tokens() > origin.position;
  if (from_disk) {
    lock.unlock();
    from_disk = restore_from(*hit, tokens);
    lock.lock();
    // A restore that failed has emptied this timeline; others may still help.
    if (!from_disk) origin = best_origin(tokens, limit);
  }
  if (!from_disk) NW_TRY(move_to(origin, tokens));
  reuse_ = {size(), from_disk ? Reuse::Source::kDisk : origin.source, 1000 * seconds_since(start)};
  return reuse_;
}

Status Timeline::append(std::span<const int32_t> tokens, const ProgressFn& progress,
                        const LogitsFn& each) {
  NW_TRY(check(tokens, size()));
  return extend(tokens, progress, each);
}

Status Timeline::rewind(int64_t n_tokens, const ProgressFn& progress) {
  if (n_tokens < 0 || n_tokens > size())
    return usage(fmt::format("rewind to {} tokens, expected 0 to {}", n_tokens, size()));
  const std::vector<int32_t> kept(tokens_.begin(), tokens_.begin() + n_tokens);
  {
    std::lock_guard lock(host_.mutex);
    NW_TRY(move_to(best_origin(kept, n_tokens), kept));
  }
  return extend(std::span(kept).subspan(tokens_.size()), progress, {});
}

Result<std::unique_ptr<Session>> Timeline::fork() {
  NW_ASSIGN(auto copy, create(host_));
  std::lock_guard lock(host_.mutex);
  if (size() > 0) NW_TRY(copy->move_to({size(), Reuse::Source::kMemory, this, nullptr}, tokens_));
  copy->best_ = best_;
  copy->row_ = row_;
  copy->logits_ = logits_;
  return std::unique_ptr<Session>(std::move(copy));
}

void Timeline::mark(Mark why) {
  std::lock_guard lock(host_.mutex);
  if (size() > 0) keep_frontier(true);
  persist_frontier(why == Mark::kAnchor ? FrontierKind::kAnchor : FrontierKind::kTurnEnd);
}

int64_t Timeline::next_cut(int64_t n_left, int64_t at_most) const {
  const int64_t end = size() + n_left;
  int64_t stop =
      std::min(end, floor_to(size() + at_most, at_most));  // whole chunks at fixed borders
  // Stop where a frontier is worth keeping: along the way, and once shortly before the end.
  for (const int64_t border :
       {floor_to(size(), kFrontierStride) + kFrontierStride, floor_to(end, kFrontierGrain)})
    if (border > size()) stop = std::min(stop, border);
  return stop - size();
}

Status Timeline::extend(std::span<const int32_t> tokens, const ProgressFn& progress,
                        const LogitsFn& each) {
  const auto total = static_cast<int64_t>(tokens.size());
  const int64_t limit = each ? std::min(host_.chunk, host_.runner.max_logits()) : host_.chunk;
  for (int64_t done = 0; done < total;) {
    const int64_t first = size(), n = next_cut(total - done, limit);
    const auto part = tokens.subspan(done, n);
    const bool last = done + n == total;
    {
      std::lock_guard lock(host_.mutex);
      NW_TRY(host_.cache.prepare(slot_, first, first + n));
      const LogitsOf want = each ? LogitsOf::kAll : last ? LogitsOf::kLast : LogitsOf::kNone;
      const StepPart step{slot_, first, part, want};
      Timeline* const self = this;
      const auto start = std::chrono::steady_clock::now();
      run_step(host_, {&step, 1}, {&self, 1});
      note_prefill(host_, n, seconds_since(start));
      added(part);
      for (int64_t i = 0; each && i < n; i++)
        each(first + i, host_.runner.logits(static_cast<int>(i)));
      if (last) take_logits(each ? static_cast<int>(n) - 1 : 0);
    }
    done += n;
    if (progress && !progress(done, total) && done < total) return cancelled();
  }
  if (total > kFrontierGrain) {  // a prompt, not a sampled token
    std::lock_guard lock(host_.mutex);
    persist_frontier(FrontierKind::kPrefill);
  }
  return ok_status();
}

int64_t Timeline::kept_bytes(SessionHost& host) {
  std::lock_guard lock(host.mutex);
  std::set<const void*> seen;
  int64_t n_bytes = 0;
  for (const Timeline* t : host.live)
    for (const KeptFrontier& f : t->frontiers_.all())
      if (seen.insert(f.image.get()).second) n_bytes += static_cast<int64_t>(f.image->size());
  return n_bytes;
}

Status Timeline::step(SessionHost& host, std::span<const Engine::Append> parts) {
  std::lock_guard lock(host.mutex);
  std::vector<StepPart> steps;
  std::vector<Timeline*> timelines;
  int64_t n_tokens = 0;
  int n_logits = 0;
  for (const Engine::Append& part : parts) {
    auto* t = dynamic_cast<Timeline*>(part.session);
    NW_CHECK(t && &t->host_ == &host && !part.tokens.empty(),
             "a session of this engine and tokens for it");
    NW_CHECK(std::find(timelines.begin(), timelines.end(), t) == timelines.end(),
             "a session twice in one step");
    NW_TRY(t->check(part.tokens, t->size()));
    timelines.push_back(t);
    steps.push_back(
        {t->slot_, t->size(), part.tokens, part.logits ? LogitsOf::kLast : LogitsOf::kNone});
    n_tokens += static_cast<int64_t>(part.tokens.size());
    n_logits += part.logits;
  }
  if (n_tokens > host.runner.max_rows() || n_logits > host.runner.max_logits())
    return usage(fmt::format("a step of {} tokens with {} logits, at most {} and {}", n_tokens,
                             n_logits, host.runner.max_rows(), host.runner.max_logits()));
  for (size_t i = 0; i < steps.size(); i++)
    NW_TRY(host.cache.prepare(steps[i].slot, steps[i].position,
                              steps[i].position + static_cast<int64_t>(steps[i].tokens.size())));
  if (steps.empty()) return ok_status();
  const auto start = std::chrono::steady_clock::now();
  run_step(host, steps, timelines);
  note_prefill(host, n_tokens, seconds_since(start));
  int row = 0;
  for (size_t i = 0; i < steps.size(); i++) {
    timelines[i]->added(steps[i].tokens);
    if (steps[i].logits == LogitsOf::kNone) continue;
    timelines[i]->take_logits(row++);
  }
  return ok_status();
}

// A step of the timelines `of`. What it overwrites is brought to the others first, who may still
// be asked for it.
void Timeline::run_step(SessionHost& host, std::span<const StepPart> parts,
                        std::span<Timeline* const> of) {
  for (Timeline* t : host.live)
    if (std::find(of.begin(), of.end(), t) == of.end()) t->fetch_logits();
  for (Timeline* t : of) t->forget_logits();
  host.runner.step(parts, host.cache.memory());
}

void Timeline::take_logits(int row) {
  row_ = row;
  best_ = host_.runner.candidates(row);
}

void Timeline::fetch_logits() const {
  if (row_ < 0) return;
  const auto row = host_.runner.logits(row_);
  logits_.assign(row.begin(), row.end());
  row_ = -1;
}

void Timeline::forget_logits() {
  best_.n = 0;
  best_.first_nan = -1;
  row_ = -1;
  logits_.clear();
}

std::span<const float> Timeline::logits() const {
  std::lock_guard lock(host_.mutex);
  fetch_logits();
  return logits_;
}

// The rings hold the state after `tokens` now.
void Timeline::added(std::span<const int32_t> tokens) {
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  newest_ = std::max(newest_, size());
  if (size() % kFrontierGrain == 0) keep_frontier(false);
  if (size() % kFrontierStride == 0) persist_frontier(FrontierKind::kPrefill);
}

std::shared_ptr<const std::vector<std::byte>> Timeline::image() const {
  auto bytes = std::make_shared<std::vector<std::byte>>(
      frontier_image_bytes(host_.config, host_.layout, size()));
  save_frontier(host_.config, host_.layout, host_.cache.memory(), host_.backend, slot_, size(),
                *bytes);
  return bytes;
}

void Timeline::keep_frontier(bool marked) {
  frontiers_.keep({size(), marked, frontiers_.has(size()) ? nullptr : image()});
}

void Timeline::consider(Origin& best, std::span<const int32_t> tokens, int64_t limit) {
  for (Timeline* t : host_.live) {
    const int64_t common = std::min(common_prefix(tokens, t->tokens_), limit);
    // Another timeline's rings are copied as they stand, at its end.
    const bool rings =
        t == this ? common >= std::max(loaded_, newest_ - kSpareEntries) : common == t->size();
    if (rings && common > best.position)
      best = {common, t == this ? Reuse::Source::kLive : Reuse::Source::kMemory, t, nullptr};
    const KeptFrontier* f = t->frontiers_.nearest(common);
    if (f && f->position > best.position) best = {f->position, Reuse::Source::kMemory, t, f};
  }
}

Timeline::Origin Timeline::best_origin(std::span<const int32_t> tokens, int64_t limit) {
  Origin best;
  consider(best, tokens, limit);
  return best;
}

Status Timeline::move_to(const Origin& origin, std::span<const int32_t> tokens) {
  const KvMemory memory = host_.cache.memory();
  std::shared_ptr<const std::vector<std::byte>> state;  // outlives the frontier list it comes from
  if (origin.from && origin.frontier) state = origin.frontier->image;
  if (origin.from && !origin.frontier && origin.from != this) state = origin.from->image();
  if (origin.from && origin.from != this) {
    host_.cache.share(origin.from->slot_, slot_, origin.position);
    frontiers_.inherit(origin.from->frontiers_, origin.position);
  }
  tokens_.assign(tokens.begin(), tokens.begin() + origin.position);
  truncate(origin.position);
  if (state) {
    load_frontier(host_.config, host_.layout, memory, host_.backend, slot_, origin.position,
                  *state);
    loaded_ = newest_ = origin.position;
  }
  return ok_status();
}

void Timeline::truncate(int64_t n_tokens) {
  host_.cache.truncate(slot_, n_tokens);
  frontiers_.truncate(n_tokens);
  if (n_tokens == 0) loaded_ = newest_ = 0;
  forget_logits();
}

}  // namespace narwhal
