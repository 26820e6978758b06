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

// Counts bytes of weights once where they are the same.
class ByteCount {
 public:
  int64_t add(const Weight& w) {
    if (seen_.insert(w.data).second) n_bytes_ += w.n_bytes();
    return n_bytes_;
  }

 private:
  std::set<const std::byte*> seen_;
  int64_t n_bytes_ = 0;
};

}  // namespace

int64_t adopted_bytes(const Config& config, const Weights& weights) {
  Weights copy = weights;
  ByteCount count;
  int64_t n_bytes = 0;
  each_tensor(config, copy, [&](const TensorSpec&, Weight& w) {
    if (w) n_bytes = count.add(w);
  });
  return n_bytes;
}

Result<Weights> adopt_weights(const Config& config, const Weights& weights, Backend& backend,
                              int64_t host_bytes,
                              const std::function<void(int64_t n_bytes)>& done) {
  Weights out = weights;
  const auto on_host = experts_on_host(config, out, host_bytes);
  Status status;
  ByteCount count;
  backend.begin_loading();
  each_tensor(config, out, [&](const TensorSpec& spec, Weight& w) {
    if (!status.ok() || !w) return;
    auto adopted =
        backend.adopt(w, on_host.contains(w.data) ? Placement::kHost : Placement::kDevice);
    if (!adopted.ok()) {
      status = adopted.status().within(spec.name);
      return;
    }
    const int64_t n_bytes = count.add(w);
    w = *adopted;
    if (done) done(n_bytes);
  });
  backend.finish_loading();  // the caller may unmap the file, whether all went well or not
  NW_TRY(status);
  return out;
}

}  // namespace narwhal
