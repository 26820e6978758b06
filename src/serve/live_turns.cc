#include "serve/live_turns.h"

#include <fmt/format.h>

namespace narwhal::serve {

Headers LiveTurns::stream_headers() const {
  Headers h = headers_;
  h.emplace_back("Cache-Control", "no-cache");
  h.emplace_back("X-Accel-Buffering", "no");
  return h;
}

void LiveTurns::add(Scheduler& scheduler, const std::shared_ptr<Exchange>& exchange,
                    std::shared_ptr<Turn> turn, std::unique_ptr<ReplyForm> form) {
  if (exchange->gone()) return;
  const Turn* key = turn.get();
  if (!scheduler.submit(turn)) {
    Headers h = headers_;
    h.emplace_back("Retry-After", "5");
    return exchange->reply(
        {429,
         form->error_body({429, "the queue is full; try again in a few seconds", "", "queue_full"}),
         "application/json", std::move(h)});
  }
  exchange->on_gone([this, &scheduler, key] {
    const auto at = live_.find(key);
    if (at == live_.end()) return;
    at->second.turn->cancel();
    live_.erase(at);
    scheduler.wake();
  });
  exchange->on_receipt([turn](bool taken) { taken ? turn->set_delivered() : turn->cancel(); });
  exchange->on_tick([this, &scheduler, key] { tick(scheduler, key); });
  Live& live = live_[key];
  live = {exchange, std::move(turn), std::move(form), Clock::now()};
  if (live.form->streaming) {
    std::string out;
    live.form->begin(out);
    exchange->begin({200, std::move(out), "text/event-stream", stream_headers()});
  }
}

void LiveTurns::update(const std::vector<std::shared_ptr<Turn>>& turns) {
  for (const auto& turn : turns) {
    if (const auto at = live_.find(turn.get()); at != live_.end()) drain(at->second);
  }
}

void LiveTurns::drain(Live& live) {
  std::string out;
  bool done = false;
  for (const TurnEvent& e : live.turn->take()) {
    if (e.kind == TurnEvent::kFailed) {
      if (!out.empty()) live.exchange->write(out);
      return fail(live, {500, e.text});
    }
    live.form->event(e, out);
    done = done || e.kind == TurnEvent::kDone;
  }
  const auto exchange = live.exchange;
  if (live.form->streaming) {
    if (!out.empty()) {
      exchange->write(out);
      live.wrote = Clock::now();
    }
    live.turn->backlog = exchange->backlog();
    if (!done) return;
    live_.erase(live.turn.get());
    return exchange->end();
  }
  if (!done) return;
  const std::string body = live.form->body();
  live_.erase(live.turn.get());
  exchange->reply({200, body, "application/json", headers_});
}

void LiveTurns::fail(Live& live, const ApiError& error) {
  const auto exchange = live.exchange;
  if (live.form->streaming) {
    std::string out;
    live.form->stream_error(error, out);
    live_.erase(live.turn.get());
    exchange->write(out);
    return exchange->end();
  }
  const std::string body = live.form->error_body(error);
  live_.erase(live.turn.get());
  exchange->reply({error.status, body, "application/json", headers_});
}

void LiveTurns::tick(Scheduler& scheduler, const Turn* turn) {
  const auto at = live_.find(turn);
  if (at == live_.end() || !at->second.form->streaming) return;
  Live& live = at->second;
  const size_t backlog = live.exchange->backlog();
  if (live.turn->backlog.exchange(backlog) > backlog) scheduler.wake();
  if (Clock::now() - live.wrote < keep_alive_ || backlog > 0) return;
  std::string out;
  live.form->keep_alive(++live.n_keep_alives, out);
  live.exchange->write(out);
  live.wrote = Clock::now();
}

}  // namespace narwhal::serve
