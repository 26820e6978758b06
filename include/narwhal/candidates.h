// Candidates: the most likely tokens at one position, which is what choosing a token needs of the
// logits. A device finds them itself, so that a few kilobytes come back instead of a whole row.
//
//   sampler.sample(session->prediction());
//
// A Prediction adds the way to the whole row, for those who look further: masks of grammars, bias,
// log-probabilities.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>

namespace narwhal {

struct Candidates {
  static constexpr int kMost = 512;

  int32_t n = 0;           // the smaller of kMost and the vocabulary; 0: nothing is known
  int32_t first_nan = -1;  // lowest id whose logit is not a number; such count as -inf below
  int32_t ids[kMost];      // the larger logit first, the lower id first on equal ones
  float logits[kMost];
};

// The same from a whole row.
Candidates candidates_of(std::span<const float> row);

struct Prediction {
  const Candidates& best;
  std::function<std::span<const float>()> row;  // brings all logits; once per position it may copy
};

}  // namespace narwhal
