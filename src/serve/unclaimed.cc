#include "serve/unclaimed.h"

#include <iterator>
#include <utility>

namespace narwhal::serve {
namespace {

bool is_text(TurnEvent::Kind kind) {
  return kind == TurnEvent::kReasoning || kind == TurnEvent::kContent ||
         kind == TurnEvent::kCallArguments;
}

}  // namespace

void tell(std::vector<TurnEvent>& told, const std::vector<TurnEvent>& more) {
  for (const TurnEvent& e : more) {
    if (is_text(e.kind) && !told.empty() && told.back().kind == e.kind)
      told.back().text += e.text;
    else
      told.push_back(e);
  }
}

void UnclaimedAnswers::keep(UnclaimedAnswer answer, Clock::time_point now) {
  if (limits_.seconds <= 0 || answer.turn->job.fingerprint.empty()) return;
  for (auto at = kept_.begin(); at != kept_.end();) {
    const auto here = at++;
    if (here->answer.turn->delivered()) erase(here);
  }
  size_t n_bytes = sizeof(Kept) + answer.turn->job.tokens.size() * 16;  // and the messages
  for (const TurnEvent& e : answer.told) n_bytes += sizeof e + e.text.size();
  if (answer.decoder) n_bytes += answer.decoder->ids().size() * 16;
  n_bytes_ += n_bytes;
  kept_.push_back({std::move(answer), now, n_bytes});
  while (!kept_.empty() && (kept_.size() > limits_.n || n_bytes_ > limits_.n_bytes))
    erase(kept_.begin());
}

void UnclaimedAnswers::erase(std::list<Kept>::iterator at) {
  n_bytes_ -= at->n_bytes;
  kept_.erase(at);
}

std::list<UnclaimedAnswers::Kept>::iterator UnclaimedAnswers::find(const TurnJob& job,
                                                                   Clock::time_point now) {
  auto found = kept_.end();
  for (auto at = kept_.begin(); at != kept_.end();) {
    const auto here = at++;
    const Turn& turn = *here->answer.turn;
    if (turn.delivered() || now - here->since > std::chrono::seconds(limits_.seconds)) {
      erase(here);
    } else if (turn.cancelled() && turn.job.fingerprint == job.fingerprint &&
               turn.job.tokens == job.tokens) {
      found = here;
    }
  }
  return found;
}

std::optional<UnclaimedAnswer> UnclaimedAnswers::take(const TurnJob& job, Clock::time_point now) {
  const auto at = find(job, now);
  if (at == kept_.end()) return std::nullopt;
  UnclaimedAnswer answer = std::move(at->answer);
  erase(at);
  return answer;
}

bool UnclaimedAnswers::has_finished(const TurnJob& job, Clock::time_point now) {
  const auto at = find(job, now);
  return at != kept_.end() && at->answer.is_finished();
}

}  // namespace narwhal::serve
