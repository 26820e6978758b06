#include "narwhal/candidates.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace narwhal {
namespace {

struct Token {
  float logit;
  int32_t id;
};

bool more_likely(const Token& a, const Token& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

}  // namespace

// Tokens gather until there are twice as many as wanted; the better half stays, and only what beats
// its last is looked at from then on.
Candidates candidates_of(std::span<const float> row) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  Candidates out;
  std::vector<Token> best;
  best.reserve(2 * Candidates::kMost);
  float least = kNever;
  const auto halve = [&] {
    std::nth_element(best.begin(), best.begin() + (Candidates::kMost - 1), best.end(), more_likely);
    best.resize(Candidates::kMost);
    least = best.back().logit;
  };
  for (size_t i = 0; i < row.size(); i++) {
    float logit = row[i];
    // Among equals of the last that stayed, those seen before have the lower ids.
    if (logit <= least && best.size() >= Candidates::kMost) continue;
    if (std::isnan(logit)) {
      if (out.first_nan < 0) out.first_nan = static_cast<int32_t>(i);
      if (best.size() >= Candidates::kMost) continue;
      logit = kNever;
    }
    best.push_back({logit, static_cast<int32_t>(i)});
    if (best.size() == 2 * Candidates::kMost) halve();
  }
  if (best.size() > Candidates::kMost) halve();
  std::sort(best.begin(), best.end(), more_likely);
  out.n = static_cast<int32_t>(best.size());
  for (size_t i = 0; i < Candidates::kMost; i++) {
    out.ids[i] = i < best.size() ? best[i].id : -1;
    out.logits[i] = i < best.size() ? best[i].logit : kNever;
  }
  return out;
}

}  // namespace narwhal
