// How far a backend's logits are from the reference's, over conversations that the model knows.
//
//   NW_ASSIGN(AgreementReport report, measure_agreement(*engine, *reference, {.n = 2000}));
//   // report.top1 of 1, mean and largest Kullback-Leibler divergence in nats
//
// Both engines hold the same file, the reference on backend `ref`. Every conversation starts a
// session of its own; positions are compared one by one, prompts included. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/json.h"
#include "narwhal/engine.h"

namespace narwhal::eval {

struct AgreementOptions {
  uint64_t seed = 1;
  int64_t n = 2000;      // positions
  int n_document = 600;  // tokens of the longest prompts among them
};

struct AgreementReport {
  int64_t n = 0, n_same = 0;  // positions; those with the same first choice
  double kl_sum = 0, kl_most = 0;

  double top1() const { return n == 0 ? 0 : static_cast<double>(n_same) / static_cast<double>(n); }
  double kl_mean() const { return n == 0 ? 0 : kl_sum / static_cast<double>(n); }
  std::string to_text() const;
  Json to_json() const;
};

// Positions done and in all; false stops with kCancelled.
using AgreementProgress = std::function<bool(int64_t done, int64_t total)>;

// Adds one position; both rows of n logits.
void add_position(std::span<const float> logits, std::span<const float> reference,
                  AgreementReport& report);

// kBadInput when the file has no tokenizer; errors of the sessions.
Result<AgreementReport> measure_agreement(Engine& engine, Engine& reference,
                                          const AgreementOptions& options,
                                          const AgreementProgress& progress = {});

}  // namespace narwhal::eval
