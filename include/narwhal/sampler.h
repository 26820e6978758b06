// Sampler: from logits to the next token.
//
//   Sampler sampler({.temperature = 0.6f, .seed = 7});
//   NW_ASSIGN(int32_t id, sampler.sample(session.prediction()));
//   sampler.accept(id);                     // so that penalties and the random stream advance
//
// Order: bias, candidates, penalties and bans, temperature, top-k, top-p, min-p, draw. Candidates
// are the Candidates::kMost most likely tokens: what is less likely is never sampled, unless all of
// them are banned; then they are those of what is not. Probabilities are among the candidates.
// Temperature 0 takes the largest logit, the lowest id on a tie. The random stream depends on the
// seed and the number of draws only. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "narwhal/candidates.h"
#include "narwhal/status.h"

namespace narwhal {

struct SamplingOptions {
  float temperature = 0.6f;
  int top_k = 0;                // keep the k most likely; 0 = all candidates
  float top_p = 0.95f;          // keep the smallest set with at least this probability; 1 = all
  float min_p = 0;              // drop tokens below min_p times the most likely; 0 = none
  float presence_penalty = 0;   // subtracted from the logit of every token already sampled
  float frequency_penalty = 0;  // subtracted once per earlier sampling of the token
  uint64_t seed = 0;            // 0 = chosen at random; the choice is in Sampler::seed()
  std::vector<std::pair<int32_t, float>> logit_bias = {};  // added first
  std::vector<int32_t> banned = {};                        // never sampled (control tokens, say)
};

// kUsage naming the field that is out of range.
Status check_sampling(const SamplingOptions& options);

class Sampler {
 public:
  explicit Sampler(SamplingOptions options);
  ~Sampler();
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;

  // kFailed when the logits hold a NaN (its index is named) or when nothing may be sampled. Both
  // give the same token; the first asks for the row where there is a bias or all candidates are
  // banned.
  Result<int32_t> sample(const Prediction& next);
  Result<int32_t> sample(std::span<const float> logits);
  void accept(int32_t id);
  uint64_t seed() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace narwhal
