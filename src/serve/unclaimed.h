// Answers whose clients left before they had all of them. For a while the same request, sent again,
// goes on where the first one stopped, or gets what was finished without it. One thread.
#pragma once

#include <chrono>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/decoder.h"
#include "serve/turn.h"

namespace narwhal::serve {

// Adds events to those told before; neighbouring pieces of the same text become one.
void tell(std::vector<TurnEvent>& told, const std::vector<TurnEvent>& more);

struct UnclaimedAnswer {
  std::shared_ptr<Turn> turn;        // the latest that was to get it
  std::shared_ptr<Turn> origin;      // the one that the decoder refers to
  std::vector<int32_t> prompt;       // as it stood before what was written
  std::unique_ptr<Decoder> decoder;  // null: finished
  std::vector<TurnEvent> told;       // from kStarted on
  std::string key;                   // in turn memory

  bool is_finished() const { return !decoder; }
};

class UnclaimedAnswers {
 public:
  using Clock = std::chrono::steady_clock;
  struct Limits {
    int seconds = 600;  // 0: nothing is kept
    size_t n = 64, n_bytes = size_t{64} << 20;
  };
  explicit UnclaimedAnswers(Limits limits) : limits_(limits) {}

  // Forgets the oldest beyond the limits. A finished answer may be kept before it is known whether
  // its client takes it.
  void keep(UnclaimedAnswer answer, Clock::time_point now);
  // The answer to this request whose client has left, and no longer here.
  std::optional<UnclaimedAnswer> take(const TurnJob& job, Clock::time_point now);
  // Of the answer that take() would give.
  bool has_finished(const TurnJob& job, Clock::time_point now);
  size_t size() const { return kept_.size(); }

 private:
  struct Kept {
    UnclaimedAnswer answer;
    Clock::time_point since;
    size_t n_bytes;
  };
  std::list<Kept>::iterator find(const TurnJob& job, Clock::time_point now);
  void erase(std::list<Kept>::iterator at);

  const Limits limits_;
  std::list<Kept> kept_;  // oldest first
  size_t n_bytes_ = 0;
};

}  // namespace narwhal::serve
