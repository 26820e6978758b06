#include "session/runner.h"

#include <algorithm>

#include "base/check.h"

namespace narwhal {

Runner::Runner(const Config& config, const Weights& weights, const KvLayout& layout,
               Backend& backend)
    : config_(config), backend_(backend), forward_(config, weights, layout, backend) {}

Result<std::unique_ptr<Runner>> Runner::create(const Config& config, const Weights& weights,
                                               const KvLayout& layout, Backend& backend,
                                               const StepShape& shape) {
  NW_TRY(backend.prepare(step_limits(config, shape)));
  std::unique_ptr<Runner> runner(new Runner(config, weights, layout, backend));
  runner->n_bytes_ = place_activations(config, layout, shape, nullptr, runner->a_);
  NW_ASSIGN(runner->memory_, backend.allocate(runner->n_bytes_));
  place_activations(config, layout, shape, runner->memory_, runner->a_);
  runner->inputs_.reserve(5 * static_cast<size_t>(shape.n_rows));
  runner->best_.resize(shape.n_logits);
  if (!backend.is_host()) runner->row_.resize(config.n_vocab);
  return runner;
}

Runner::~Runner() { backend_.release(memory_, n_bytes_); }

void Runner::step(std::span<const StepPart> parts, const KvMemory& kv) {
  int64_t n = 0;
  for (const StepPart& part : parts) n += static_cast<int64_t>(part.tokens.size());
  NW_CHECK(n <= max_rows(), "{} rows of {}", n, max_rows());
  inputs_.resize(5 * n);
  int32_t *const token = inputs_.data(), *const position = token + n, *const slot = position + n,
                 *const first_row = slot + n, *const logits_rows = first_row + n;
  StepSize size;
  for (const StepPart& part : parts) {
    const int32_t first = size.n_rows;
    for (size_t i = 0; i < part.tokens.size(); i++) {
      const int32_t row = size.n_rows++;
      NW_CHECK(part.tokens[i] >= 0 && part.tokens[i] < config_.n_vocab, "token {} of {}",
               part.tokens[i], config_.n_vocab);
      token[row] = part.tokens[i];
      position[row] = static_cast<int32_t>(part.position + static_cast<int64_t>(i));
      slot[row] = part.slot;
      first_row[row] = first;
      const bool wants = part.logits == LogitsOf::kAll ||
                         (part.logits == LogitsOf::kLast && i + 1 == part.tokens.size());
      if (wants) logits_rows[size.n_logits++] = row;
    }
  }
  NW_CHECK(size.n_logits <= max_logits(), "{} logits of {}", size.n_logits, max_logits());
  most_ = {std::max(most_.n_rows, size.n_rows), std::max(most_.n_logits, size.n_logits)};
  n_logits_ = size.n_logits;
  place_inputs(size.n_rows, a_);
  backend_.copy_in(a_.token, token, (4 * n + size.n_logits) * 4);
  const auto forward = [&] { forward_.run(size, a_, kv); };
  if (forward_.observed())
    forward();
  else
    backend_.run_step({size.n_rows, size.n_logits, kv.pages}, forward);
  if (size.n_logits == 0) return backend_.ops().sync();
  backend_.copy_out(best_.data(), a_.best, size.n_logits * int64_t{sizeof(Candidates)});
}

const Candidates& Runner::candidates(int i) const {
  NW_CHECK(i < n_logits_, "candidates {} of {}", i, n_logits_);
  return best_[i];
}

std::span<const float> Runner::logits(int i) {
  NW_CHECK(i < n_logits_, "logits {} of {}", i, n_logits_);
  const auto n = static_cast<size_t>(config_.n_vocab);
  const float* row = a_.logits + int64_t{i} * config_.n_vocab;
  if (backend_.is_host()) return {row, n};
  backend_.copy_out(row_.data(), row, config_.n_vocab * int64_t{4});
  return row_;
}

}  // namespace narwhal
