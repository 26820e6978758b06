#include "serve/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/prefix.h"
#include "kvstore/kv_store.h"
#include "serve/random_id.h"
#include "serve/respell.h"

namespace narwhal::serve {
namespace {

double ms_between(std::chrono::steady_clock::time_point a,
                  std::chrono::steady_clock::time_point b) {
  return std::chrono::duration<double, std::milli>(b - a).count();
}

constexpr std::string_view kStopping = "the server is shutting down; send the request again later";

}  // namespace

Scheduler::Scheduler(Engine& engine, const Vocabulary& vocabulary, TurnMemory& memory,
                     Metrics& metrics, SchedulerOptions options, Notify notify, Log log)
    : engine_(engine),
      vocabulary_(vocabulary),
      memory_(memory),
      metrics_(metrics),
      options_(options),
      notify_(std::move(notify)),
      log_(std::move(log)),
      view_(options.n_sessions),
      slots_(options.n_sessions),
      thread_([this] { loop(); }) {}

Scheduler::~Scheduler() { stop(); }

bool Scheduler::submit(std::shared_ptr<Turn> turn) {
  {
    const std::lock_guard lock(mutex_);
    if (stop_ || std::ssize(queue_) >= options_.max_queue) {
      metrics_.refused++;
      return false;
    }
    queue_.push_back({std::move(turn), Clock::now()});
    metrics_.queued = std::ssize(queue_);
  }
  metrics_.requests++;
  wake();
  return true;
}

int Scheduler::position(const Turn& turn) const {
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < queue_.size(); i++) {
    if (queue_[i].turn.get() == &turn) return static_cast<int>(i) + 1;
  }
  return 0;
}

std::vector<SlotView> Scheduler::slots() const {
  const std::lock_guard lock(mutex_);
  return view_;
}

void Scheduler::wake() {
  {
    const std::lock_guard lock(mutex_);
    poked_ = true;
  }
  wake_.notify_one();
}

void Scheduler::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Scheduler::loop() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (runs_.empty() && queue_.empty()) wake_.wait(lock, [&] { return stop_ || poked_; });
      poked_ = false;
      if (stop_) break;
    }
    drop_cancelled();
    admit();
    if (!step()) {
      // Every turn waits for its reader or for a session.
      deliver();
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, std::chrono::milliseconds(20), [&] { return stop_ || poked_; });
      continue;
    }
    deliver();
  }
  for (Slot& slot : slots_) {
    if (slot.session) keep(slot);
  }
  for (Run& run : runs_) {
    if (!run.orphan)
      run.events.push_back({.kind = TurnEvent::kFailed, .text = std::string(kStopping)});
  }
  deliver();
  runs_.clear();
  std::vector<std::shared_ptr<Turn>> waiting;
  {
    const std::lock_guard lock(mutex_);
    for (Queued& q : queue_) waiting.push_back(std::move(q.turn));
    queue_.clear();
  }
  for (const auto& turn : waiting) {
    std::vector<TurnEvent> events = {{.kind = TurnEvent::kFailed, .text = std::string(kStopping)}};
    turn->put(events);
  }
  if (!waiting.empty()) notify_(std::move(waiting));
}

// ---- who runs

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
      if (ms_between(run.orphaned, now) > 1000.0 * options_.orphan_s) remove(run);
      continue;
    }
    if (!run.turn->cancelled()) continue;
    metrics_.cancelled++;
    if (run.prefilling()) {
      run.orphan = true;
      run.orphaned = now;
      log_(*run.turn,
           fmt::format("client left at {} of {} prompt tokens; reading on", run.at,
                       run.prompt.size()),
           nullptr);
      continue;
    }
    log_(*run.turn, fmt::format("client left after {} tokens", run.decoder->ids().size()),
         run.decoder.get());
    remove(run);
  }
}

void Scheduler::admit() {
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
    if (const Status status = start(std::move(queued), *slot); !status.ok()) {
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

Status Scheduler::start(Queued queued, Slot& slot) {
  if (!slot.session) {
    NW_ASSIGN(slot.session, engine_.new_session());
  }
  Run run;
  run.arrived = queued.since;
  run.started = Clock::now();
  run.session = slot.session.get();
  run.prompt = queued.turn->job.tokens;
  run.marks = queued.turn->job.marks;
  spell(run);
  std::string parting = difference(run);
  NW_ASSIGN(run.reuse, run.session->resume(run.prompt));
  run.at = std::ssize(run.session->tokens());
  if (10 * run.at < 9 * std::ssize(run.prompt)) run.note = std::move(parting);
  run.turn = std::move(queued.turn);
  run.key = random_hex(16);
  run.events.push_back({.kind = TurnEvent::kStarted,
                        .usage = {.prompt = std::ssize(run.prompt), .cached = run.at},
                        .key = run.key});
  metrics_.prompt_tokens += std::ssize(run.prompt);
  metrics_.cached_tokens += run.at;
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

// Where the prompt parts from the session that it is to go on with.
std::string Scheduler::difference(const Run& run) const {
  constexpr int64_t kExcerpt = 8;
  const int64_t at = common_prefix(run.session->tokens(), run.prompt), n = std::ssize(run.prompt);
  if (at == 0 || at == n || at == std::ssize(run.session->tokens())) return "";
  const auto excerpt = std::span(run.prompt).subspan(at, std::min(kExcerpt, n - at));
  return fmt::format("new from token {}: {}", at,
                     json_quote(text::to_utf8(engine_.tokenizer()->decode(excerpt))));
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
  runs_.remove_if([&](const Run& r) { return &r == &run; });
  metrics_.running = std::ssize(runs_);
}

// ---- a step

// Prompts take turns: the oldest, then the one with the least left, and so on. Prompts whose client
// has gone wait for all others.
Scheduler::Run* Scheduler::pick_prefill() {
  Run* oldest = nullptr;
  Run* shortest = nullptr;
  const auto left = [](const Run& r) { return std::ssize(r.prompt) - r.at; };
  for (const bool orphans : {false, true}) {
    for (Run& run : runs_) {
      if (!run.prefilling() || run.orphan != orphans) continue;
      if (!oldest) oldest = &run;
      if (!shortest || left(run) < left(*shortest)) shortest = &run;
    }
    if (oldest) break;
  }
  return n_steps_ % 2 == 0 ? oldest : shortest;
}

// How many prompt tokens fit beside the writing turns.
int64_t Scheduler::piece_of(const Run& run, int n_decoding) const {
  constexpr double kFirstGuess = 16, kLeast = 4;
  const int64_t room = engine_.max_step_tokens() - n_decoding;
  int64_t n = room;
  if (n_decoding > 0) {
    const double fits =
        prefill_ms_ > 0 ? (options_.stretch - 1) * decode_ms_ / prefill_ms_ : kFirstGuess;
    n = std::min(room, static_cast<int64_t>(std::max(kLeast, fits)));
  }
  int64_t end = std::ssize(run.prompt);
  for (const PromptMark& mark : run.marks) {
    if (mark.position > run.at) end = std::min(end, mark.position);
  }
  return run.session->next_cut(end - run.at, n);
}

bool Scheduler::step() {
  std::vector<Engine::Append> parts;
  std::vector<Run*> parts_of;
  const int max_tokens = engine_.max_step_tokens();
  for (Run& run : runs_) {
    if (run.prefilling() || run.turn->backlog > options_.max_backlog) continue;
    if (std::ssize(parts) >= max_tokens - 1) break;
    parts.push_back({run.session, {&run.next, 1}, true});
    parts_of.push_back(&run);
  }
  const int n_decoding = static_cast<int>(parts.size());
  int64_t n_prefill = 0;
  if (Run* run = pick_prefill()) {
    n_prefill = piece_of(*run, n_decoding);
    const bool whole = run->at + n_prefill == std::ssize(run->prompt);
    parts.push_back({run->session, std::span(run->prompt).subspan(run->at, n_prefill), whole});
    parts_of.push_back(run);
  }
  if (parts.empty()) return false;

  const auto before = Clock::now();
  const Status status = engine_.step(parts);
  const double ms = ms_between(before, Clock::now());
  n_steps_++;
  metrics_.steps++;
  metrics_.busy_us += static_cast<int64_t>(ms * 1000);
  if (!status.ok()) {
    // Without memory, the prompt gives way; whatever else happens concerns all of them.
    if (status.code() == Code::kNoMemory && n_prefill > 0 && n_decoding > 0)
      parts_of.erase(parts_of.begin(), parts_of.end() - 1);
    for (Run* run : parts_of) fail(*run, status.message());
    return true;
  }
  learn(ms, n_decoding, n_prefill);
  if (n_prefill > 0) parts_of.back()->at += n_prefill;
  for (Run* run : parts_of) advance(*run);
  // Turns move to the back in the order they were served, so that none is always left out.
  if (std::ssize(runs_) > max_tokens) runs_.splice(runs_.end(), runs_, runs_.begin());
  update_view();
  return true;
}

// Moving averages that piece_of() plans with.
void Scheduler::learn(double ms, int n_decoding, int64_t n_prefill) {
  const auto move = [](double& average, double value, double weight) {
    average = average > 0 ? average + weight * (value - average) : value;
  };
  if (n_prefill == 0) {
    move(decode_ms_, ms, 0.1);
  } else if (n_decoding == 0) {
    if (n_prefill >= 16) move(prefill_ms_, ms / double(n_prefill), 0.3);
  } else if (decode_ms_ > 0) {
    const double more = std::max(ms - decode_ms_, 0.1 * ms);
    move(prefill_ms_, more / double(n_prefill), 0.1);
  } else {
    decode_ms_ = ms / 2;
  }
}

void Scheduler::advance(Run& run) {
  if (!run.prefilling()) return sampled(run);
  for (const PromptMark& mark : run.marks) {
    if (mark.position == run.at) run.session->mark(mark.why);
  }
  if (run.at < std::ssize(run.prompt)) return;
  if (run.orphan) return remove(run);
  run.first_token = Clock::now();
  metrics_.prefill_us += static_cast<int64_t>(1000 * ms_between(run.started, run.first_token));
  metrics_.observe_first_token(ms_between(run.arrived, run.first_token) / 1000);
  run.decoder = std::make_unique<Decoder>(vocabulary_, run.turn->job);
  if (run.turn->job.request.prefill_only) return end(run);
  sampled(run);
}

// The session has logits: the next token.
void Scheduler::sampled(Run& run) {
  const auto id = run.decoder->next(run.session->logits());
  if (!id.ok()) return fail(run, id.status().message());
  run.next = *id;
  metrics_.generated_tokens++;
  if (!run.decoder->finished() && std::ssize(run.session->tokens()) >= run.session->n_ctx())
    run.decoder->cut();
  for (TurnEvent& e : run.decoder->events()) run.events.push_back(std::move(e));
  if (run.decoder->finished()) end(run);
}

void Scheduler::end(Run& run) {
  const TurnJob& job = run.turn->job;
  const Decoder& d = *run.decoder;
  const auto now = Clock::now();
  TurnEvent done{.kind = TurnEvent::kDone};
  done.finish = d.finish();
  done.text = d.stop_string();
  done.usage = {std::ssize(run.prompt), run.reuse.n_tokens, std::ssize(d.ids()), d.n_reasoning()};
  done.timings = {ms_between(run.arrived, run.started), ms_between(run.started, run.first_token),
                  ms_between(run.first_token, now)};
  // Past a stop string the tokens say more than the client has seen.
  if (d.finish() != Finish::kStopString && !d.ids().empty() && job.request.prompt.empty())
    memory_.add(job.history, run.key, d.content(), d.calls(), d.sampled());
  metrics_.decode_us += static_cast<int64_t>(1000 * done.timings.decode_ms);
  metrics_.completed++;
  if (!d.notes().empty()) metrics_.repaired_calls++;
  constexpr const char* kNames[] = {"stop", "stop string", "tool calls", "length"};
  constexpr const char* kSources[] = {"nothing", "session", "memory", "disk"};
  std::string line = fmt::format(
      "prompt {} (reused {} from {}), written {}, {}; queue {:.0f} ms, prefill {:.0f} ms, "
      "decode {:.0f} ms ({:.1f} tok/s)",
      done.usage.prompt, done.usage.cached, kSources[static_cast<int>(run.reuse.source)],
      done.usage.completion, kNames[static_cast<int>(done.finish)], done.timings.queue_ms,
      done.timings.prefill_ms, done.timings.decode_ms,
      done.timings.decode_ms > 0 ? 1000 * double(done.usage.completion - 1) / done.timings.decode_ms
                                 : 0.0);
  if (!run.note.empty()) line += "; " + run.note;
  for (const std::string& note : d.notes()) line += "; " + note;
  log_(*run.turn, line, &d);
  run.events.push_back(std::move(done));
  run.turn->put(run.events);
  notify_({run.turn});
  remove(run);
}

void Scheduler::fail(Run& run, const std::string& why) {
  metrics_.failed++;
  log_(*run.turn, fmt::format("failed: {}", why), run.decoder.get());
  run.events.push_back({.kind = TurnEvent::kFailed, .text = why});
  run.turn->put(run.events);
  notify_({run.turn});
  remove(run);
}

void Scheduler::deliver() {
  std::vector<std::shared_ptr<Turn>> turns;
  for (Run& run : runs_) {
    if (run.events.empty() || run.orphan) continue;
    run.turn->put(run.events);
    turns.push_back(run.turn);
  }
  if (!turns.empty()) notify_(std::move(turns));
}

void Scheduler::update_view() {
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < slots_.size(); i++) {
    const Run* run = slots_[i].run;
    view_[i] = {.busy = run != nullptr,
                .prefilling = run && run->prefilling(),
                .n_tokens = slots_[i].session ? std::ssize(slots_[i].session->tokens()) : 0,
                .n_prompt = run ? std::ssize(run->prompt) : 0,
                .n_written = run && run->decoder ? std::ssize(run->decoder->ids()) : 0};
  }
}

}  // namespace narwhal::serve
