// The frontier walk: one timeline of tokens is extended to a series of contexts ("frontiers"). On
// the way to each the prompt is computed in chunks and timed; at each some tokens are decoded one
// by one and timed. Nothing is rewound: decoded tokens are the sequence's own next ones, so the
// timeline is the sequence whatever a backend's rounding makes of it, and the next interval starts
// behind them.
//
//   0        512     544          1024    1056
//   |prefill--|decode-|prefill------|decode-|          --ctx-start 512 --step-mul 2 --gen 32
//
// The walk is repeated; figures are medians over the repetitions.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "bench/energy.h"
#include "narwhal/status.h"

namespace narwhal::bench {

struct WalkOptions {
  int64_t ctx_start = 512;
  int64_t ctx_max = 4096;
  int64_t step_incr = 0;  // tokens from a frontier to the next; 0: step_mul is used
  double step_mul = 2;
  int n_decode = 32;  // tokens decoded at each frontier
  int repeat = 3;
  int warmup = 32;  // tokens computed before, untimed, so that the file's pages are mapped
  uint64_t seed = 1;
};

// The contexts of a walk, ascending: ctx_start, ..., at most ctx_max. kUsage when an interval is
// not longer than the tokens decoded in it, or a number is out of range.
Result<std::vector<int64_t>> frontiers(const WalkOptions& options);

// Tokens a session must hold for it.
int64_t walk_tokens(const WalkOptions& options, std::span<const int64_t> at);

// n ids drawn evenly from [0, n_vocab): the same for the same seed on every machine.
std::vector<int32_t> random_tokens(uint64_t seed, int64_t n, int64_t n_vocab);

struct Spread {
  double median = 0, min = 0, max = 0;
};
Spread spread(std::vector<double> values);

struct Point {
  int64_t ctx = 0;             // the frontier
  int64_t interval_begin = 0;  // prompt tokens [interval_begin, ctx) were timed
  int n_decode = 0;
  Spread prefill_tps, decode_tps;
  Spread prefill_joules, decode_joules;  // per token; 0 without a meter
  int64_t interval() const { return ctx - interval_begin; }
};

// What is walked along; the commands make it of a Session. decode() must leave on the
// host what choosing a token looks at.
struct Track {
  std::function<Status()> restart;  // an empty timeline
  std::function<Status(std::span<const int32_t>)> prefill;
  std::function<Status(int32_t)> decode;
};

// Seconds from any fixed point in time.
using Clock = std::function<double()>;
Clock steady_clock();

// Called before each part with the tokens done and to do, over all repetitions; false stops the
// walk with kCancelled.
using WalkProgress = std::function<bool(int64_t done, int64_t total)>;

// `tokens` holds at least walk_tokens(). `meter` may be null.
Result<std::vector<Point>> walk(const WalkOptions& options, std::span<const int32_t> tokens,
                                const Track& track, EnergyMeter* meter, const Clock& clock,
                                const WalkProgress& progress = {});

}  // namespace narwhal::bench
