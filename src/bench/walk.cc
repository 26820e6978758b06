#include "bench/walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/check.h"

namespace narwhal::bench {
namespace {

int64_t next_frontier(const WalkOptions& o, int64_t at) {
  if (o.step_incr > 0) return at + o.step_incr;
  return std::max(at + 1, static_cast<int64_t>(std::llround(static_cast<double>(at) * o.step_mul)));
}

// Samples of one frontier, one entry per repetition.
struct Samples {
  std::vector<double> prefill_tps, decode_tps, prefill_joules, decode_joules;
};

}  // namespace

Clock steady_clock() {
  return [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
}

Result<std::vector<int64_t>> frontiers(const WalkOptions& o) {
  if (o.ctx_start < 1 || o.ctx_max < o.ctx_start)
    return usage(fmt::format("--ctx-start {} and --ctx-max {}: expected 1 or more, ascending",
                             o.ctx_start, o.ctx_max));
  if (o.n_decode < 1 || o.repeat < 1 || o.warmup < 0)
    return usage(fmt::format("--gen {}, --repeat {}, --warmup {}: expected positive numbers",
                             o.n_decode, o.repeat, o.warmup));
  if (o.step_incr == 0 && !(o.step_mul > 1))
    return usage(fmt::format("--step-mul {}: expected more than 1", o.step_mul));
  std::vector<int64_t> at;
  for (int64_t f = o.ctx_start; f <= o.ctx_max; f = next_frontier(o, f)) {
    if (!at.empty() && f - at.back() <= o.n_decode)
      return usage(
          fmt::format("{} tokens from context {} to {}, of which {} are decoded; take "
                      "longer steps or a smaller --gen",
                      f - at.back(), at.back(), f, o.n_decode));
    at.push_back(f);
    if (at.size() > 10000) return usage("more than 10000 contexts; take longer steps");
  }
  return at;
}

int64_t walk_tokens(const WalkOptions& options, std::span<const int64_t> at) {
  return std::max<int64_t>(at.back() + options.n_decode, options.warmup);
}

std::vector<int32_t> random_tokens(uint64_t seed, int64_t n, int64_t n_vocab) {
  NW_CHECK(n_vocab > 0, "{} tokens in the vocabulary", n_vocab);
  std::vector<int32_t> ids(n);
  uint64_t state = seed;
  for (int32_t& id : ids) {  // splitmix64
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    id = static_cast<int32_t>((z ^ z >> 31) % static_cast<uint64_t>(n_vocab));
  }
  return ids;
}

Spread spread(std::vector<double> v) {
  if (v.empty()) return {};
  std::sort(v.begin(), v.end());
  const size_t n = v.size();
  return {(v[(n - 1) / 2] + v[n / 2]) / 2, v.front(), v.back()};
}

Result<std::vector<Point>> walk(const WalkOptions& options, std::span<const int32_t> tokens,
                                const Track& track, EnergyMeter* meter, const Clock& clock,
                                const WalkProgress& progress) {
  NW_ASSIGN(const std::vector<int64_t> at, frontiers(options));
  const int64_t needed = walk_tokens(options, at);
  NW_CHECK(static_cast<int64_t>(tokens.size()) >= needed, "{} tokens for a walk of {}",
           tokens.size(), needed);
  const auto joules = [&] { return meter ? meter->joules() : 0; };
  const auto go_on = [&](int64_t done) {
    return !progress || progress(done, options.repeat * needed);
  };

  if (options.warmup > 0) {
    NW_TRY(track.restart());
    NW_TRY(track.prefill(tokens.first(options.warmup)));
  }
  std::vector<Samples> samples(at.size());
  for (int turn = 0; turn < options.repeat; turn++) {
    NW_TRY(track.restart());
    int64_t done = 0;
    for (size_t i = 0; i < at.size(); i++) {
      if (!go_on(turn * needed + done)) return cancelled();
      const double j0 = joules(), t0 = clock();
      NW_TRY(track.prefill(tokens.subspan(done, at[i] - done)));
      const double t1 = clock(), j1 = joules();
      if (!go_on(turn * needed + at[i])) return cancelled();
      const double j2 = joules(), t2 = clock();
      for (int k = 0; k < options.n_decode; k++) NW_TRY(track.decode(tokens[at[i] + k]));
      const double t3 = clock(), j3 = joules();
      const auto n_prompt = static_cast<double>(at[i] - done);
      samples[i].prefill_tps.push_back(n_prompt / (t1 - t0));
      samples[i].decode_tps.push_back(options.n_decode / (t3 - t2));
      samples[i].prefill_joules.push_back((j1 - j0) / n_prompt);
      samples[i].decode_joules.push_back((j3 - j2) / options.n_decode);
      done = at[i] + options.n_decode;
    }
  }

  std::vector<Point> points;
  for (size_t i = 0; i < at.size(); i++) {
    Point p;
    p.ctx = at[i];
    p.interval_begin = i == 0 ? 0 : at[i - 1] + options.n_decode;
    p.n_decode = options.n_decode;
    p.prefill_tps = spread(samples[i].prefill_tps);
    p.decode_tps = spread(samples[i].decode_tps);
    p.prefill_joules = spread(samples[i].prefill_joules);
    p.decode_joules = spread(samples[i].decode_joules);
    points.push_back(p);
  }
  return points;
}

}  // namespace narwhal::bench
