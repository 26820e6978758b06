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

Status check_range(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return ok_status();  // false for NaN
  return usage(fmt::format("{} is {}, expected {} to {}", name, value, low, high));
}

// exp((logit - best) / temperature) for every candidate, most likely first; an infinite logit beats
// every finite one. What is further below the best than double precision can see has no share in
// any sum and is left out.
void weigh(std::vector<Candidate>& candidates, float temperature) {
  const float best = candidates.front().logit;
  const double reach = 60.0 * double(temperature);
  const double floor = best == kInf ? double(kInf) : double(best) - reach;
  while (double(candidates.back().logit) < floor) candidates.pop_back();
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

void keep_top_p(std::vector<Candidate>& candidates, float top_p) {
  if (top_p >= 1) return;
  const double wanted = double(top_p) * total_weight(candidates);
  double mass = candidates.front().weight;
  size_t n = 1;
  while (mass < wanted && n < candidates.size()) mass += candidates[n++].weight;
  candidates.resize(n);
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
  std::vector<int32_t> banned;                  // ascending
  std::vector<Candidate> candidates;            // most likely first

  bool is_banned(int32_t id) const { return std::binary_search(banned.begin(), banned.end(), id); }
  std::vector<float> biased(std::span<const float> row) const;
  bool collect(const Candidates& best);
  int32_t choose();
};

std::vector<float> Sampler::State::biased(std::span<const float> row) const {
  std::vector<float> out(row.begin(), row.end());
  for (const auto& [id, bias] : options.logit_bias) {
    if (static_cast<size_t>(id) < out.size()) out[static_cast<size_t>(id)] += bias;
  }
  return out;
}

// Fills `candidates` with what may be sampled, penalties applied; false when that is nothing.
bool Sampler::State::collect(const Candidates& best) {
  candidates.clear();
  const bool penalised = options.presence_penalty != 0 || options.frequency_penalty != 0;
  for (int i = 0; i < best.n; i++) {
    const int32_t id = best.ids[i];
    if (is_banned(id)) continue;
    float logit = best.logits[i];
    if (penalised) {
      if (const auto seen = counts.find(id); seen != counts.end())
        logit -= options.presence_penalty + options.frequency_penalty * float(seen->second);
    }
    if (logit == -kInf) continue;
    candidates.push_back({id, logit, 0});
    if (options.temperature <= 0 && !penalised) break;  // it is the one
  }
  if (penalised) std::sort(candidates.begin(), candidates.end(), more_likely);
  return !candidates.empty();
}

int32_t Sampler::State::choose() {
  const SamplingOptions& o = options;
  if (o.temperature <= 0) return candidates.front().id;
  weigh(candidates, o.temperature);
  if (o.top_k > 0 && static_cast<size_t>(o.top_k) < candidates.size()) candidates.resize(o.top_k);
  keep_top_p(candidates, o.top_p);
  keep_min_p(candidates, o.min_p);
  return draw(candidates, sample::random_unit(seed, n_accepted));
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
  state_->banned = options.banned;
  std::sort(state_->banned.begin(), state_->banned.end());
  state_->options = std::move(options);
}

Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

Result<int32_t> Sampler::sample(const Prediction& next) {
  State& s = *state_;
  const auto nan = [&](const Candidates& c) {
    return failed(fmt::format(
        "logit {} of {} is not a number; the model file is damaged or the backend has a fault",
        c.first_nan, next.row().size()));
  };
  if (next.best.first_nan >= 0) return nan(next.best);
  if (s.options.logit_bias.empty() && s.collect(next.best)) return s.choose();

  std::vector<float> row = s.biased(next.row());
  const Candidates best = candidates_of(row);
  if (best.first_nan >= 0) return nan(best);
  if (s.collect(best)) return s.choose();
  for (int32_t id : s.banned) {
    if (static_cast<size_t>(id) < row.size()) row[static_cast<size_t>(id)] = -kInf;
  }
  if (s.collect(candidates_of(row))) return s.choose();
  return failed(fmt::format("nothing may be sampled: all {} logits are excluded or minus infinity",
                            row.size()));
}

Result<int32_t> Sampler::sample(std::span<const float> logits) {
  return sample(Prediction{candidates_of(logits), [&] { return logits; }});
}

void Sampler::accept(int32_t id) {
  state_->counts[id]++;
  state_->n_accepted++;
}

uint64_t Sampler::seed() const { return state_->seed; }

}  // namespace narwhal
