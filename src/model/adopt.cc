#include "model/adopt.h"

#include <set>
#include <vector>

namespace narwhal {

namespace {

bool is_expert(TensorRole role) {
  return role == TensorRole::kExpertGate || role == TensorRole::kExpertUp ||
         role == TensorRole::kExpertDown;
}

// By their bytes, which several weights may share.
std::set<const std::byte*> experts_on_host(const Config& config, Weights& weights,
                                           int64_t host_bytes) {
  std::vector<const Weight*> experts;
  each_tensor(config, weights, [&](const TensorSpec& spec, Weight& w) {
    if (w && is_expert(spec.role)) experts.push_back(&w);
  });
  std::set<const std::byte*> chosen;
  for (auto w = experts.rbegin(); w != experts.rend() && host_bytes > 0; ++w)
    if (chosen.insert((*w)->data).second) host_bytes -= (*w)->n_bytes();
  return chosen;
}

}  // namespace

Result<Weights> adopt_weights(const Config& config, const Weights& weights, Backend& backend,
                              int64_t host_bytes,
                              const std::function<void(int64_t n_bytes)>& done) {
  Weights out = weights;
  const auto on_host = experts_on_host(config, out, host_bytes);
  Status status;
  int64_t n_bytes = 0;
  each_tensor(config, out, [&](const TensorSpec& spec, Weight& w) {
    if (!status.ok() || !w) return;
    auto adopted =
        backend.adopt(w, on_host.contains(w.data) ? Placement::kHost : Placement::kDevice);
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
