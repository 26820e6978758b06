// Scheduler: one thread that advances all turns together, a step of the model at a time.
//
// A step holds the next token of every turn that is writing, and a piece of one prompt, as large as
// lets the writers go on almost as if it were not there. Sessions are reused by the longest common
// prefix; a turn whose client has gone while its prompt was read is read on while nobody else needs
// its session, so that the client's next attempt finds the work done. What was written when a
// client leaves is kept (unclaimed.h): the same request goes on from there.
//
// submit(), slots() and stop() may be called from any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/progress.h"
#include "narwhal/engine.h"
#include "serve/decoder.h"
#include "serve/metrics.h"
#include "serve/turn.h"
#include "serve/turn_memory.h"
#include "serve/unclaimed.h"

namespace narwhal::serve {

struct SchedulerOptions {
  int n_sessions = 1;    // as the engine was opened for
  int max_queue = 64;    // turns that wait
  double stretch = 2.0;  // a step with a piece of prompt may take so many times longer
  // A turn's pieces wait for a later step when the last went out so recently: waking the sockets'
  // thread for every token of a small model costs as much as a tenth of the token.
  std::chrono::microseconds moment{1500};
  size_t max_backlog = size_t{1} << 20;  // bytes a reader may be behind before its turn pauses
  int retry_s = 600;                     // how long work goes on or is kept for a client that left
  bool shows_progress = false;           // of prompts, on a terminal
};

// What /slots shows of a session.
struct SlotView {
  bool busy = false, prefilling = false;
  int64_t n_tokens = 0, n_prompt = 0, n_written = 0;
};

class Scheduler {
 public:
  // Called on the scheduler's thread with the turns that have new events.
  using Notify = std::function<void(std::vector<std::shared_ptr<Turn>>)>;
  // Called on the scheduler's thread when a turn is over.
  struct Record {
    const Turn& turn;
    std::string line;                 // for the log
    std::string cache;                // what its session held; empty before it had one
    std::span<const int32_t> ids;     // written
    std::span<const TurnEvent> told;  // neighbouring pieces joined
  };
  using Log = std::function<void(const Record&)>;

  Scheduler(Engine& engine, const Vocabulary& vocabulary, TurnMemory& memory, Metrics& metrics,
            SchedulerOptions options, Notify notify, Log log);
  ~Scheduler();

  // False when the queue is full.
  bool submit(std::shared_ptr<Turn> turn);
  // The number of turns that wait before this one; 0 when it runs.
  int position(const Turn& turn) const;
  std::vector<SlotView> slots() const;
  // Ends every turn with an error, keeps the states, ends the thread.
  void stop();
  // Something changed that the thread may wait for: a turn was cancelled or its reader caught up.
  void wake();

 private:
  using Clock = std::chrono::steady_clock;
  static double ms_between(Clock::time_point a, Clock::time_point b) {
    return std::chrono::duration<double, std::milli>(b - a).count();
  }
  struct Queued {
    std::shared_ptr<Turn> turn;
    Clock::time_point since;
  };
  struct Run {
    std::shared_ptr<Turn> turn;
    std::vector<int32_t> prompt;  // the turn's, perhaps in the tokens of a state; then what was
                                  // written, where that must be read again
    int64_t n_prompt = 0;         // without the latter
    std::vector<PromptMark> marks;
    Session* session = nullptr;
    int64_t at = 0;                // prompt tokens that are in the session
    std::shared_ptr<Turn> origin;  // whose request the decoder refers to
    std::unique_ptr<Decoder> decoder;
    int32_t next = -1;  // sampled, not yet in the session
    bool orphan = false;
    std::string key;  // in turn memory
    Reuse reuse;
    std::string cache;  // what its session held
    Clock::time_point arrived, started, first_token, orphaned, delivered;
    std::vector<TurnEvent> events, told;

    bool prefilling() const { return next < 0; }
  };
  struct Slot {
    std::unique_ptr<Session> session;
    Run* run = nullptr;
    Clock::time_point used;
  };
  using Runs = std::list<Run>;

  void loop();
  // scheduler_admit.cc
  void drop_cancelled();
  void leave(Run& run);
  void admit();
  void give_finished();
  size_t pick_queued() const;
  Slot* pick_slot(std::span<const int32_t> prompt);
  Status start(Queued queued, Slot& slot, std::optional<UnclaimedAnswer> written);
  void spell(Run& run) const;
  std::string explain_reuse(const Run& run, const Slot& slot) const;
  void keep(Slot& slot);
  void remove(Run& run);
  // scheduler_step.cc
  Run* pick_prefill();
  int64_t piece_of(const Run& run, int n_decoding) const;
  bool step();
  void learn(double ms, int n_decoding, int64_t n_prefill);
  void advance(Run& run);
  void sampled(Run& run);
  void read_again(Run& run);
  void end(Run& run);
  void fail(Run& run, const std::string& why);
  void deliver(bool all);
  void update_view();
  void log(const Run& run, std::string line);
  void show_progress();
  static std::string_view source_name(const Reuse& reuse);

  Engine& engine_;
  const Vocabulary& vocabulary_;
  TurnMemory& memory_;
  Metrics& metrics_;
  const SchedulerOptions options_;
  const Notify notify_;
  const Log log_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Queued> queue_;
  std::vector<SlotView> view_;
  bool stop_ = false, poked_ = false;

  // The thread's own.
  Runs runs_;
  std::vector<Slot> slots_;
  UnclaimedAnswers unclaimed_;
  std::optional<Progress> progress_;
  const Run* progress_of_ = nullptr;
  uint64_t n_steps_ = 0;
  int64_t step_cpu_us_ = 0;  // of this thread, in steps of the model
  double decode_ms_ = 0,
         prefill_ms_ = 0;  // of a step without prompt; of one prompt token beside it
  std::thread thread_;
};

}  // namespace narwhal::serve
