#include "narwhal/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <unordered_map>

#include "sample/random.h"

namespace narwhal {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Candidate {
  int32_t id;
  float logit;
  double weight;  // unnormalised probability, 1 for the most likely
};

// A total order, so that every standard library sorts alike.
bool more_likely(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}
bool less_likely(const Candidate& a, const Candidate& b) { return more_likely(b, a); }

Status check_range(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return ok_status();  // false for NaN
  return usage(fmt::format("{} is {}, expected {} to {}", name, value, low, high));
}

// exp((logit - best) / temperature) for every candidate; an infinite logit beats every finite one.
void weigh(std::vector<Candidate>& candidates, float best, float temperature) {
  for (Candidate& c : candidates) {
    c.weight =
        c.logit == best ? 1.0 : std::exp((double(c.logit) - double(best)) / double(temperature));
  }
}

double total_weight(const std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  return total;
}

void keep_top_k(std::vector<Candidate>& candidates, int top_k) {
  if (top_k <= 0 || static_cast<size_t>(top_k) >= candidates.size()) return;
  std::nth_element(candidates.begin(), candidates.begin() + (top_k - 1), candidates.end(),
                   more_likely);
  candidates.resize(top_k);
  // Back to the order of ids: sums must not depend on how the library partitions.
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

// A heap gives the few most likely of a large vocabulary without sorting it.
void keep_top_p(std::vector<Candidate>& candidates, float top_p) {
  if (top_p >= 1) return;
  const double wanted = double(top_p) * total_weight(candidates);
  std::make_heap(candidates.begin(), candidates.end(), less_likely);
  auto end = candidates.end();
  double mass = 0;
  do {
    std::pop_heap(candidates.begin(), end, less_likely);
    mass += (--end)->weight;
  } while (mass < wanted && end != candidates.begin());
  candidates.erase(candidates.begin(), end);
  std::reverse(candidates.begin(), candidates.end());
}

void keep_min_p(std::vector<Candidate>& candidates, float min_p) {
  if (min_p <= 0) return;
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < double(min_p); });
}

int32_t draw(const std::vector<Candidate>& candidates, double unit) {
  double left = unit * total_weight(candidates);
  for (const Candidate& c : candidates) {
    left -= c.weight;
    if (left < 0) return c.id;
  }
  return candidates.back().id;
}

}  // namespace

struct Sampler::State {
  SamplingOptions options;
  uint64_t seed = 0;
  uint64_t n_accepted = 0;
  std::unordered_map<int32_t, int64_t> counts;  // of accepted tokens
  std::vector<float> logits;                    // working copy
  std::vector<Candidate> candidates;

  Status adjust(std::span<const float> raw);
  Result<float> best() const;
  int32_t first_with(float logit) const;
  void collect(float best_logit);
};

// Fills `logits` with bias, penalties and bans applied.
Status Sampler::State::adjust(std::span<const float> raw) {
  for (size_t i = 0; i < raw.size(); i++) {
    if (std::isnan(raw[i])) {
      return failed(fmt::format(
          "logit {} of {} is not a number; the model file is damaged or the backend has a fault", i,
          raw.size()));
    }
  }
  logits.assign(raw.begin(), raw.end());
  const auto inside = [&](int32_t id) {
    return id >= 0 && static_cast<size_t>(id) < logits.size();
  };
  for (const auto& [id, bias] : options.logit_bias) {
    if (inside(id)) logits[id] += bias;
  }
  if (options.presence_penalty != 0 || options.frequency_penalty != 0) {
    for (const auto& [id, count] : counts) {
      if (inside(id)) {
        logits[id] -= options.presence_penalty + options.frequency_penalty * float(count);
      }
    }
  }
  for (int32_t id : options.banned) {
    if (inside(id)) logits[id] = -kInf;
  }
  return ok_status();
}

Result<float> Sampler::State::best() const {
  float best = -kInf;
  for (float v : logits) best = std::max(best, v);
  if (best == -kInf) {
    return failed(fmt::format(
        "nothing may be sampled: all {} logits are excluded or minus infinity", logits.size()));
  }
  return best;
}

int32_t Sampler::State::first_with(float logit) const {
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), logit) - logits.begin());
}

// Candidates in the order of ids. What is further below the best than double precision can see has
// no share in any sum and is left out.
void Sampler::State::collect(float best_logit) {
  candidates.clear();
  const double reach = 60.0 * double(options.temperature);
  const double floor = best_logit == kInf ? double(kInf) : double(best_logit) - reach;
  for (size_t i = 0; i < logits.size(); i++) {
    if (double(logits[i]) >= floor && logits[i] != -kInf) {
      candidates.push_back({static_cast<int32_t>(i), logits[i], 0});
    }
  }
  weigh(candidates, best_logit, options.temperature);
}

Status check_sampling(const SamplingOptions& o) {
  constexpr float kMax = std::numeric_limits<float>::max();
  NW_TRY(check_range("temperature", o.temperature, 0, 100));
  NW_TRY(check_range("top_k", o.top_k, 0, std::numeric_limits<int>::max()));
  NW_TRY(check_range("top_p", o.top_p, 0, 1));
  NW_TRY(check_range("min_p", o.min_p, 0, 1));
  NW_TRY(check_range("presence_penalty", o.presence_penalty, -100, 100));
  NW_TRY(check_range("frequency_penalty", o.frequency_penalty, -100, 100));
  for (const auto& [id, bias] : o.logit_bias) {
    if (id < 0) return usage(fmt::format("logit_bias: token id {}, expected 0 or more", id));
    if (!(std::abs(bias) <= kMax)) {
      return usage(fmt::format("logit_bias of token {} is {}, expected a finite number", id, bias));
    }
  }
  for (int32_t id : o.banned) {
    if (id < 0) return usage(fmt::format("banned: token id {}, expected 0 or more", id));
  }
  return ok_status();
}

Sampler::Sampler(SamplingOptions options) : state_(std::make_unique<State>()) {
  state_->seed = options.seed;
  // 48 bits, so that the chosen seed survives every JSON reader.
  while (state_->seed == 0) {
    std::random_device device;
    state_->seed = (uint64_t{device()} << 16 ^ device()) & ((uint64_t{1} << 48) - 1);
  }
  state_->options = std::move(options);
}

Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

Result<int32_t> Sampler::sample(std::span<const float> logits) {
  State& s = *state_;
  const SamplingOptions& o = s.options;
  NW_TRY(s.adjust(logits));
  NW_ASSIGN(const float best, s.best());
  if (o.temperature <= 0) return s.first_with(best);
  s.collect(best);
  keep_top_k(s.candidates, o.top_k);
  keep_top_p(s.candidates, o.top_p);
  keep_min_p(s.candidates, o.min_p);
  return draw(s.candidates, sample::random_unit(s.seed, s.n_accepted));
}

void Sampler::accept(int32_t id) {
  state_->counts[id]++;
  state_->n_accepted++;
}

uint64_t Sampler::seed() const { return state_->seed; }

}  // namespace narwhal
