#include "model/adopt.h"

namespace narwhal {

Result<Weights> adopt_weights(const Config& config, const Weights& weights, Backend& backend,
                              const std::function<void(int64_t n_bytes)>& done) {
  Weights out = weights;
  Status status;
  int64_t n_bytes = 0;
  each_tensor(config, out, [&](const TensorSpec& spec, Weight& w) {
    if (!status.ok() || !w) return;
    auto adopted = backend.adopt(w);
    if (!adopted.ok()) {
      status = adopted.status().within(spec.name);
      return;
    }
    n_bytes += w.n_bytes();
    w = *adopted;
    if (done) done(n_bytes);
  });
  NW_TRY(status);
  return out;
}

}  // namespace narwhal
