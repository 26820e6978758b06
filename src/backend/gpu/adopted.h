// AdoptedWeights: the device copies of a model's weights, packed for the kernels. Weights that
// share bytes in the file share them on the device.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>

#include "backend/backend.h"
#include "backend/gpu/queue.h"
#include "tensor/weight.h"

namespace narwhal::gpu {

class AdoptedWeights {
 public:
  AdoptedWeights(Backend& backend, Queue& queue) : backend_(backend), queue_(queue) {}
  ~AdoptedWeights();
  AdoptedWeights(const AdoptedWeights&) = delete;
  AdoptedWeights& operator=(const AdoptedWeights&) = delete;

  // The same weight on the device; w.data is host memory. Lives as long as this object.
  Result<Weight> adopt(const Weight& w);

 private:
  struct Copy {
    std::byte* device;
    int64_t n_bytes;
  };
  using Key = std::tuple<const std::byte*, DType, int64_t, int64_t, int64_t>;
  Status fill(const Weight& w, std::byte* device);
  // One matrix in pieces through the staging area.
  void fill_matrix(const Weight& w, const std::byte* host, std::byte* device);

  Backend& backend_;
  Queue& queue_;
  std::map<Key, Copy> copies_;
  std::byte* staging_ = nullptr;  // device memory of raw blocks
};

}  // namespace narwhal::gpu
