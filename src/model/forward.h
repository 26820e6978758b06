// The forward pass: tokens in, logits out (model section 2). One function for prefill chunks,
// decode rows of several sequences and the verification of drafts: they differ only in the rows of
// the batch.
//
//   Forward forward(config, weights, layout, backend.ops());
//   forward.run({.n_rows = 3, .n_logits = 1}, activations, kv_memory);
//   backend.ops().sync();            // logits are in activations.logits, the most likely tokens
//                                    // in activations.best
//
// The caller has filled activations.token/position/slot/first_row (BatchRows says how) and
// activations.logits_rows with the rows whose logits it wants. The sequences' page tables must
// already cover the new positions. Rings and pages are updated as the layers go by.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "model/activations.h"
#include "model/config.h"
#include "model/kv_layout.h"
#include "model/weights.h"
#include "ops/ops.h"

namespace narwhal {

// Sees values as they come into being; costs nothing when absent. `layer` is -1 outside the layers.
// Data is device memory and valid during the call; the queue has been waited for.
using Observer =
    std::function<void(std::string_view name, int layer, const float* data, int64_t n)>;

struct StepSize {
  int n_rows = 0;
  int n_logits = 0;
};

class Forward {
 public:
  // `weights` point into device memory; rope tables are uploaded through `backend`.
  Forward(const Config& config, const Weights& weights, const KvLayout& layout, Backend& backend);
  ~Forward();
  Forward(const Forward&) = delete;
  Forward& operator=(const Forward&) = delete;

  void run(const StepSize& size, const Activations& a, const KvMemory& kv);
  void observe(Observer observer) { observer_ = std::move(observer); }
  bool observed() const { return observer_ != nullptr; }

 private:
  struct Step;  // what one layer needs at hand

  void attention(const Step& t);
  void project(const Step& t);
  void compressor(const Step& t, const CompressorWeights& w, const PagedRows& rows,
                  const Ring& k_ring, const Ring& s_ring, const float* k, float* s);
  void index_inputs(const Step& t);
  void index_select(const Step& t);
  void moe(const Step& t);
  void head(int n_logits, const Activations& a);
  HcParams hc_params(const HcWeights& w) const;
  void see(std::string_view name, int layer, const float* data, int64_t n);

  const Config& c_;
  const Weights& w_;
  const KvLayout& layout_;
  Backend& backend_;
  Ops& ops_;
  float *freq_sliding_ = nullptr, *freq_compressed_ = nullptr;  // device
  Observer observer_;
};

}  // namespace narwhal
