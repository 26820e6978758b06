// Turns whose clients wait: brings the scheduler's events into the form of the API and onto the
// socket, keeps waiting clients patient, and passes on that one has left. IO thread only.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "serve/api/api.h"
#include "serve/http/message.h"
#include "serve/scheduler.h"
#include "serve/turn.h"

namespace narwhal::serve {

class LiveTurns {
 public:
  LiveTurns(double keep_alive_s, Headers headers)
      : keep_alive_(keep_alive_s), headers_(std::move(headers)) {}

  // Answers 429 when the queue is full.
  void add(Scheduler& scheduler, const std::shared_ptr<Exchange>& exchange,
           std::shared_ptr<Turn> turn, std::unique_ptr<ReplyForm> form);
  // These turns have events.
  void update(const std::vector<std::shared_ptr<Turn>>& turns);

 private:
  using Clock = std::chrono::steady_clock;
  struct Live {
    std::shared_ptr<Exchange> exchange;
    std::shared_ptr<Turn> turn;
    std::unique_ptr<ReplyForm> form;
    Clock::time_point wrote;
    int n_keep_alives = 0;
  };
  void drain(Live& live);
  void tick(Scheduler& scheduler, const Turn* turn);
  void fail(Live& live, const ApiError& error);
  Headers stream_headers() const;

  const std::chrono::duration<double> keep_alive_;
  const Headers headers_;  // on every reply
  std::map<const Turn*, Live> live_;
};

}  // namespace narwhal::serve
