// Runner: turns requests of sequences into one step of the model. One transfer brings the step to
// the device, one wait the most likely tokens back; whole rows of logits stay there until somebody
// asks.
//
//   runner.step({{{.slot = 3, .position = 100, .tokens = ids, .logits = LogitsOf::kLast}}});
//   runner.candidates(0);
//
// One step at a time; the engine holds the lock.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/forward.h"
#include "narwhal/status.h"

namespace narwhal {

// Which rows of a part want logits.
enum class LogitsOf { kNone, kLast, kAll };

// Consecutive tokens of one sequence.
struct StepPart {
  int slot = 0;
  int64_t position = 0;  // of tokens[0]
  std::span<const int32_t> tokens;
  LogitsOf logits = LogitsOf::kNone;
};

class Runner {
 public:
  static Result<std::unique_ptr<Runner>> create(const Config& config, const Weights& weights,
                                                const KvLayout& layout, Backend& backend,
                                                const StepShape& shape);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // Runs all parts in one step: at most max_rows() tokens and max_logits() logits in all. Every
  // sequence appears at most once, its page table covers the new positions.
  void step(std::span<const StepPart> parts, const KvMemory& kv);

  // Of the last step, in the order asked: part by part, row by row. Valid until the next step.
  const Candidates& candidates(int i) const;
  // The same, and until the next call.
  std::span<const float> logits(int i);

  int max_rows() const { return a_.max_rows; }
  int max_logits() const { return a_.max_logits; }
  // The largest step so far.
  StepSize most() const { return most_; }
  Forward& forward() { return forward_; }

 private:
  Runner(const Config& config, const Weights& weights, const KvLayout& layout, Backend& backend);

  const Config& config_;
  Backend& backend_;
  Forward forward_;
  Activations a_;
  std::byte* memory_ = nullptr;
  int64_t n_bytes_ = 0;
  StepSize most_;
  int n_logits_ = 0;             // of the last step
  std::vector<int32_t> inputs_;  // staging
  std::vector<Candidates> best_;
  std::vector<float> row_;  // host copy, only where the device is not the host
};

}  // namespace narwhal
