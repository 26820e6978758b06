#include "serve/scheduler.h"

#include <utility>

namespace narwhal::serve {
namespace {

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
      unclaimed_({.seconds = options.retry_s}),
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
    const bool stepped = step();
    deliver(/*all=*/!stepped);
    metrics_.scheduler_us = thread_cpu_us() - step_cpu_us_;
    if (!stepped) {
      // Every turn waits for its reader or for a session.
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, std::chrono::milliseconds(20), [&] { return stop_ || poked_; });
    }
  }
  for (Slot& slot : slots_) {
    if (slot.session) keep(slot);
  }
  for (Run& run : runs_) {
    if (!run.orphan)
      run.events.push_back({.kind = TurnEvent::kFailed, .text = std::string(kStopping)});
  }
  deliver(/*all=*/true);
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

}  // namespace narwhal::serve
