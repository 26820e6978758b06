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
  for (auto* v : {&runner->token_, &runner->position_, &runner->slot_, &runner->first_row_,
                  &runner->logits_rows_})
    v->reserve(shape.n_rows);
  if (!backend.is_host()) runner->logits_.resize(int64_t{shape.n_logits} * config.n_vocab);
  return runner;
}

Runner::~Runner() { backend_.release(memory_, n_bytes_); }

void Runner::step(std::span<const StepPart> parts, const KvMemory& kv) {
  for (auto* v : {&token_, &position_, &slot_, &first_row_, &logits_rows_}) v->clear();
  for (const StepPart& part : parts) {
    const auto first = static_cast<int32_t>(token_.size());
    for (size_t i = 0; i < part.tokens.size(); i++) {
      const bool wants = part.logits == LogitsOf::kAll ||
                         (part.logits == LogitsOf::kLast && i + 1 == part.tokens.size());
      if (wants) logits_rows_.push_back(static_cast<int32_t>(token_.size()));
      NW_CHECK(part.tokens[i] >= 0 && part.tokens[i] < config_.n_vocab, "token {} of {}",
               part.tokens[i], config_.n_vocab);
      token_.push_back(part.tokens[i]);
      position_.push_back(static_cast<int32_t>(part.position + static_cast<int64_t>(i)));
      slot_.push_back(part.slot);
      first_row_.push_back(first);
    }
  }
  const StepSize size{static_cast<int>(token_.size()), static_cast<int>(logits_rows_.size())};
  NW_CHECK(size.n_rows <= max_rows() && size.n_logits <= max_logits(), "{} rows, {} logits",
           size.n_rows, size.n_logits);
  most_ = {std::max(most_.n_rows, size.n_rows), std::max(most_.n_logits, size.n_logits)};
  const auto send = [&](int32_t* device, const std::vector<int32_t>& v) {
    backend_.copy_in(device, v.data(), static_cast<int64_t>(v.size()) * 4);
  };
  send(a_.token, token_);
  send(a_.position, position_);
  send(a_.slot, slot_);
  send(a_.first_row, first_row_);
  send(a_.logits_rows, logits_rows_);
  const auto forward = [&] { forward_.run(size, a_, kv); };
  if (forward_.observed())
    forward();
  else
    backend_.run_step({size.n_rows, size.n_logits, kv.pages}, forward);
  backend_.ops().sync();
  if (!backend_.is_host())
    backend_.copy_out(logits_.data(), a_.logits, int64_t{size.n_logits} * config_.n_vocab * 4);
}

std::span<const float> Runner::logits(int i) const {
  NW_CHECK(i < static_cast<int>(logits_rows_.size()), "logits {} of {}", i, logits_rows_.size());
  const float* all = backend_.is_host() ? a_.logits : logits_.data();
  return {all + int64_t{i} * config_.n_vocab, static_cast<size_t>(config_.n_vocab)};
}

}  // namespace narwhal
