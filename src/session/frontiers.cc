#include "session/frontiers.h"

#include <algorithm>

namespace narwhal {
namespace {

constexpr size_t kDense = 4;  // newest ones that thinning leaves alone

}  // namespace

const KeptFrontier* Frontiers::nearest(int64_t limit) const {
  const KeptFrontier* best = nullptr;
  for (const KeptFrontier& f : kept_)
    if (f.position <= limit) best = &f;
  return best;
}

bool Frontiers::has(int64_t position) const {
  const KeptFrontier* f = nearest(position);
  return f && f->position == position;
}

void Frontiers::keep(KeptFrontier frontier) {
  const auto at = std::lower_bound(kept_.begin(), kept_.end(), frontier.position,
                                   [](const KeptFrontier& f, int64_t p) { return f.position < p; });
  if (at != kept_.end() && at->position == frontier.position) {
    at->marked |= frontier.marked;
    return;
  }
  kept_.insert(at, std::move(frontier));
  while (n_bytes() > budget_bytes_ && kept_.size() > 1) drop_one();
}

// The victim is the point whose loss costs least: the gap it leaves, relative to its distance from
// the end.
void Frontiers::drop_one() {
  const int64_t end = kept_.back().position;
  size_t victim = 0;
  double least = -1;
  for (const bool marked : {false, true}) {
    for (size_t i = 0; i + 1 < kept_.size(); i++) {
      if (kept_[i].marked != marked || (!marked && i + kDense >= kept_.size())) continue;
      const int64_t before = i > 0 ? kept_[i - 1].position : 0;
      const double cost =
          double(kept_[i + 1].position - before) / double(end - kept_[i].position + 1);
      if (least < 0 || cost < least) least = cost, victim = i;
    }
    if (least >= 0) break;
  }
  kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(victim));
}

void Frontiers::truncate(int64_t n_tokens) {
  while (!kept_.empty() && kept_.back().position > n_tokens) kept_.pop_back();
}

void Frontiers::inherit(const Frontiers& other, int64_t n_tokens) {
  kept_.clear();
  for (const KeptFrontier& f : other.kept_)
    if (f.position <= n_tokens) keep(f);
}

int64_t Frontiers::n_bytes() const {
  int64_t total = 0;
  for (const KeptFrontier& f : kept_) total += static_cast<int64_t>(f.image->size());
  return total;
}

}  // namespace narwhal
