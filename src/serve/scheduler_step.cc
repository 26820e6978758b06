// One step of the model: what goes into it, and what follows from it.
#include <fmt/format.h>

#include <algorithm>

#include "serve/scheduler.h"

namespace narwhal::serve {
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
  const int64_t cpu_before = thread_cpu_us();
  const Status status = engine_.step(parts);
  step_cpu_us_ += thread_cpu_us() - cpu_before;
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
  show_progress();
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
  if (!run.decoder || run.first_token < run.started) {
    run.first_token = Clock::now();
    metrics_.prefill_us += static_cast<int64_t>(1000 * ms_between(run.started, run.first_token));
    metrics_.observe_first_token(ms_between(run.arrived, run.first_token) / 1000);
  }
  if (!run.decoder) run.decoder = std::make_unique<Decoder>(vocabulary_, run.turn->job);
  if (run.turn->job.request.prefill_only) return end(run);
  sampled(run);
}

// The session has logits: the next token.
void Scheduler::sampled(Run& run) {
  const auto id = run.decoder->next(run.session->prediction());
  if (!id.ok()) return fail(run, id.status().message());
  run.next = *id;
  metrics_.generated_tokens++;
  if (run.decoder->went_back()) return read_again(run);
  if (!run.decoder->finished() && std::ssize(run.session->tokens()) >= run.session->n_ctx())
    run.decoder->cut();
  for (TurnEvent& e : run.decoder->events()) run.events.push_back(std::move(e));
  if (run.decoder->finished()) end(run);
}

// The session holds more than what counts as written.
void Scheduler::read_again(Run& run) {
  const auto& ids = run.decoder->ids();
  run.prompt.resize(run.n_prompt);
  run.prompt.insert(run.prompt.end(), ids.begin(), ids.end());
  run.next = -1;
  metrics_.rewritten_blocks++;
  const auto reuse = run.session->resume(run.prompt);
  if (!reuse.ok()) return fail(run, reuse.status().message());
  run.at = std::ssize(run.session->tokens());
}

void Scheduler::end(Run& run) {
  const TurnJob& job = run.turn->job;
  const Decoder& d = *run.decoder;
  const auto now = Clock::now();
  TurnEvent done{.kind = TurnEvent::kDone};
  done.finish = d.finish();
  done.text = d.stop_string();
  done.usage = {run.n_prompt, run.reuse.n_tokens, std::ssize(d.ids()), d.n_reasoning()};
  done.timings = {ms_between(run.arrived, run.started), ms_between(run.started, run.first_token),
                  ms_between(run.first_token, now)};
  // Past a stop string the tokens say more than the client has seen.
  if (d.finish() != Finish::kStopString && !d.ids().empty() && job.request.prompt.empty())
    memory_.add(job.history, run.key, d.content(), d.calls(), d.sampled());
  metrics_.decode_us += static_cast<int64_t>(1000 * done.timings.decode_ms);
  metrics_.completed++;
  if (!d.notes().empty()) metrics_.repaired_calls++;
  constexpr const char* kNames[] = {"stop", "stop string", "tool calls", "length"};
  std::string line = fmt::format(
      "prompt {} (reused {} from {}), written {}, {}; queue {:.0f} ms, prefill {:.0f} ms, "
      "decode {:.0f} ms ({:.1f} tok/s)",
      done.usage.prompt, done.usage.cached, source_name(run.reuse), done.usage.completion,
      kNames[static_cast<int>(done.finish)], done.timings.queue_ms, done.timings.prefill_ms,
      done.timings.decode_ms,
      done.timings.decode_ms > 0 ? 1000 * double(done.usage.completion - 1) / done.timings.decode_ms
                                 : 0.0);
  for (const std::string& note : d.notes()) line += "; " + note;
  if (10 * run.reuse.n_tokens < 9 * run.n_prompt) line += "; " + run.cache;
  run.events.push_back(std::move(done));
  tell(run.told, run.events);
  log(run, std::move(line));
  run.turn->put(run.events);
  unclaimed_.keep({run.turn, run.origin, {}, nullptr, std::move(run.told), run.key}, now);
  notify_({run.turn});
  remove(run);
}

void Scheduler::fail(Run& run, const std::string& why) {
  metrics_.failed++;
  log(run, fmt::format("failed: {}", why));
  run.events.push_back({.kind = TurnEvent::kFailed, .text = why});
  run.turn->put(run.events);
  notify_({run.turn});
  remove(run);
}

void Scheduler::deliver(bool all) {
  const auto now = Clock::now();
  std::vector<std::shared_ptr<Turn>> turns;
  for (Run& run : runs_) {
    if (run.events.empty() || run.orphan) continue;
    if (!all && now - run.delivered < options_.moment) continue;
    run.delivered = now;
    tell(run.told, run.events);
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

void Scheduler::log(const Run& run, std::string line) {
  progress_.reset();
  log_({*run.turn, std::move(line), run.cache,
        run.decoder ? std::span<const int32_t>(run.decoder->ids()) : std::span<const int32_t>(),
        run.told});
}

// A bar for the prompt that was begun first.
void Scheduler::show_progress() {
  if (!options_.shows_progress) return;
  const auto reading = std::find_if(runs_.begin(), runs_.end(),
                                    [](const Run& r) { return r.prefilling() && !r.orphan; });
  if (reading == runs_.end()) return progress_.reset();
  if (!progress_ || progress_of_ != &*reading) {
    progress_.reset();
    progress_.emplace("prompt", std::ssize(reading->prompt));
    progress_of_ = &*reading;
  }
  progress_->update(reading->at);
}

}  // namespace narwhal::serve
