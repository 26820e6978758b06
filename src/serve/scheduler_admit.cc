// Who runs: turns get sessions, take up what is there of their prompts and answers, and leave.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/json.h"
#include "base/prefix.h"
#include "kvstore/kv_store.h"
#include "serve/random_id.h"
#include "serve/respell.h"
#include "serve/scheduler.h"
#include "text/detokenizer.h"

namespace narwhal::serve {
void Scheduler::drop_cancelled() {
  {
    const std::lock_guard lock(mutex_);
    const auto n = std::erase_if(queue_, [](const Queued& q) { return q.turn->cancelled(); });
    metrics_.cancelled += static_cast<int64_t>(n);
    metrics_.queued = std::ssize(queue_);
  }
  const auto now = Clock::now();
  for (auto at = runs_.begin(); at != runs_.end();) {
    Run& run = *at++;
    if (run.orphan) {
      if (ms_between(run.orphaned, now) > 1000.0 * options_.retry_s) remove(run);
    } else if (run.turn->cancelled()) {
      metrics_.cancelled++;
      leave(run);
    }
  }
}

// The client has gone: prompts are read on for its next attempt, what was written is kept for it.
void Scheduler::leave(Run& run) {
  if (run.decoder) {
    log(run, fmt::format("client left after {} tokens", run.decoder->ids().size()));
    run.prompt.resize(run.n_prompt);
    tell(run.told, run.events);  // what was still to be delivered
    unclaimed_.keep({run.turn, run.origin, std::move(run.prompt), std::move(run.decoder),
                     std::move(run.told), run.key},
                    Clock::now());
    return remove(run);
  }
  log(run,
      fmt::format("client left at {} of {} prompt tokens; reading on", run.at, run.prompt.size()));
  run.orphan = true;
  run.orphaned = Clock::now();
}

// Turns whose answer is there already need no session.
void Scheduler::give_finished() {
  std::vector<std::shared_ptr<Turn>> turns;
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    std::erase_if(queue_, [&](const Queued& q) {
      if (!unclaimed_.has_finished(q.turn->job, now)) return false;
      turns.push_back(q.turn);
      return true;
    });
    metrics_.queued = std::ssize(queue_);
  }
  for (const auto& turn : turns) {
    auto answer = unclaimed_.take(turn->job, Clock::now());
    if (!answer) continue;
    answer->turn = turn;
    std::vector<TurnEvent> events = answer->told;
    for (TurnEvent& e : events) e.usage.cached = e.usage.prompt;
    turn->put(events);
    metrics_.resumed++;
    log_({*turn, "the answer was finished after its client had left; given again", "", {}, {}});
    unclaimed_.keep(*std::move(answer), Clock::now());
  }
  if (!turns.empty()) notify_(std::move(turns));
}

void Scheduler::admit() {
  give_finished();
  for (;;) {
    Queued queued;
    Slot* slot = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (queue_.empty()) return;
      const size_t i = pick_queued();
      slot = pick_slot(queue_[i].turn->job.tokens);
      if (!slot) return;
      queued = std::move(queue_[i]);
      queue_.erase(queue_.begin() + static_cast<int64_t>(i));
      metrics_.queued = std::ssize(queue_);
    }
    const auto turn = queued.turn;
    if (slot->run) remove(*slot->run);  // an orphan
    if (const Status status =
            start(std::move(queued), *slot, unclaimed_.take(turn->job, Clock::now()));
        !status.ok()) {
      std::vector<TurnEvent> events = {{.kind = TurnEvent::kFailed, .text = status.message()}};
      turn->put(events);
      metrics_.failed++;
      notify_({turn});
    }
  }
}

// The oldest turn of the client that has the fewest running.
size_t Scheduler::pick_queued() const {
  std::map<std::string_view, int> running;
  for (const Run& run : runs_) {
    if (!run.orphan) running[run.turn->job.request.client]++;
  }
  size_t best = 0;
  int fewest = 1 << 30;
  for (size_t i = 0; i < queue_.size(); i++) {
    const auto at = running.find(queue_[i].turn->job.request.client);
    const int n = at == running.end() ? 0 : at->second;
    if (n < fewest) fewest = n, best = i;
  }
  return best;
}

// The session that loses least by going on with this prompt: tokens past the common prefix, which
// count less the longer they were not used.
Scheduler::Slot* Scheduler::pick_slot(std::span<const int32_t> prompt) {
  const auto now = Clock::now();
  Slot* best = nullptr;
  double best_loss = 0;
  int64_t best_common = 0;
  for (Slot& slot : slots_) {
    if (slot.run && !slot.run->orphan) continue;
    std::span<const int32_t> tokens;
    if (slot.run)
      tokens = std::span(slot.run->prompt).first(slot.run->at);
    else if (slot.session)
      tokens = slot.session->tokens();
    const int64_t common = common_prefix(tokens, prompt);
    const double minutes = ms_between(slot.used, now) / 60'000;
    const double loss = double(std::ssize(tokens) - common) * std::exp2(-minutes / 10);
    if (!best || loss < best_loss || (loss == best_loss && common > best_common)) {
      best = &slot;
      best_loss = loss;
      best_common = common;
    }
  }
  return best;
}

Status Scheduler::start(Queued queued, Slot& slot, std::optional<UnclaimedAnswer> written) {
  if (!slot.session) {
    NW_ASSIGN(slot.session, engine_.new_session());
  }
  Run run;
  run.arrived = queued.since;
  run.started = Clock::now();
  run.session = slot.session.get();
  run.turn = std::move(queued.turn);
  if (written) {
    metrics_.resumed++;
    run.origin = std::move(written->origin);
    run.decoder = std::move(written->decoder);
    run.told = std::move(written->told);
    run.key = std::move(written->key);
    run.prompt = std::move(written->prompt);
    run.n_prompt = std::ssize(run.prompt);
    run.prompt.insert(run.prompt.end(), run.decoder->ids().begin(), run.decoder->ids().end());
  } else {
    run.origin = run.turn;
    run.key = random_hex(16);
    run.prompt = run.turn->job.tokens;
    run.marks = run.turn->job.marks;
    spell(run);
    run.n_prompt = std::ssize(run.prompt);
  }
  run.cache = explain_reuse(run, slot);
  NW_ASSIGN(run.reuse, run.session->resume(run.prompt));
  run.at = std::ssize(run.session->tokens());
  run.reuse.n_tokens = std::min(run.at, run.n_prompt);
  const TurnEvent started{.kind = TurnEvent::kStarted,
                          .usage = {.prompt = run.n_prompt, .cached = run.reuse.n_tokens},
                          .key = run.key};
  if (run.told.empty()) {
    run.events.push_back(started);
  } else {
    run.told.front() = started;
    run.events = std::exchange(run.told, {});
  }
  metrics_.prompt_tokens += run.n_prompt;
  metrics_.cached_tokens += run.reuse.n_tokens;
  runs_.push_back(std::move(run));
  slot.run = &runs_.back();
  slot.used = Clock::now();
  metrics_.running = std::ssize(runs_);
  return ok_status();
}

// Where a state spells more of the prompt than shares its tokens, the prompt goes on in the
// spelling of that state.
void Scheduler::spell(Run& run) const {
  const text::Tokenizer& tokenizer = *engine_.tokenizer();
  Spelling best;
  std::span<const int32_t> state;
  int64_t shared = 0;
  const auto consider = [&](std::span<const int32_t> tokens) {
    shared = std::max(shared, common_prefix(tokens, run.prompt));
    const Spelling s = spelled_prefix(tokenizer, tokens, run.prompt);
    if (s.n_prompt > best.n_prompt) best = s, state = tokens;
  };
  for (const Slot& slot : slots_) {
    if (slot.session) consider(slot.session->tokens());
  }
  std::optional<KvStore::Text> stored;
  if (engine_.store()) stored = engine_.store()->find_text(text_key(tokenizer, run.prompt));
  if (stored) consider(stored->tokens);
  if (best.n_prompt <= shared) return;
  std::vector<int32_t> prompt = respell(tokenizer, state, run.prompt, best);
  const int64_t longer = std::ssize(prompt) - std::ssize(run.prompt);
  if (std::ssize(prompt) >= run.session->n_ctx()) return;
  std::erase_if(run.marks, [&](const PromptMark& m) {
    return m.position > shared && m.position < best.n_prompt + (best.n_bytes > 0);
  });
  for (PromptMark& mark : run.marks) {
    if (mark.position > shared) mark.position += longer;
  }
  run.prompt = std::move(prompt);
}

std::string_view Scheduler::source_name(const Reuse& reuse) {
  constexpr std::string_view kNames[] = {"nothing", "session", "memory", "disk"};
  return kNames[static_cast<size_t>(reuse.source)];
}

// What the session has, and where the prompt parts from it.
std::string Scheduler::explain_reuse(const Run& run, const Slot& slot) const {
  const std::span<const int32_t> held = run.session->tokens(), prompt = run.prompt;
  std::string out = fmt::format("session {} of {} held {} tokens", &slot - slots_.data() + 1,
                                slots_.size(), held.size());
  const int64_t at = common_prefix(held, prompt);
  if (at == 0 || at == std::ssize(held) || at == std::ssize(prompt)) return out;
  const auto excerpt = [&](std::span<const int32_t> ids) {
    constexpr int64_t kExcerpt = 8;
    const auto piece = ids.subspan(at, std::min(kExcerpt, std::ssize(ids) - at));
    return json_quote(text::to_utf8(vocabulary_.tokenizer.decode(piece)));
  };
  return out +
         fmt::format("; new from token {}: {} where it had {}", at, excerpt(prompt), excerpt(held));
}

// What the session holds can be returned to, by its tokens and by its text.
void Scheduler::keep(Slot& slot) {
  const auto tokens = slot.session->tokens();
  if (tokens.empty()) return;
  slot.session->mark(Mark::kTurnEnd);
  if (KvStore* store = engine_.store())
    store->put_text(text_key(*engine_.tokenizer(), tokens), tokens);
}

void Scheduler::remove(Run& run) {
  for (Slot& slot : slots_) {
    if (slot.run != &run) continue;
    slot.run = nullptr;
    slot.used = Clock::now();
    keep(slot);
  }
  if (progress_of_ == &run) progress_.reset();
  runs_.remove_if([&](const Run& r) { return &r == &run; });
  metrics_.running = std::ssize(runs_);
}

}  // namespace narwhal::serve
