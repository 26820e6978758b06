#include "model/adopt.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "backend/host_backend.h"
#include "ops/ref/ref_ops.h"

namespace narwhal {
namespace {

// Remembers what it was given.
class NotingBackend : public HostBackend {
 public:
  std::string_view name() const override { return "noting"; }
  std::string description() const override { return "notes"; }
  Ops& ops() override { return ops_; }
  Status prepare(const StepLimits&) override { return ok_status(); }
  int preferred_chunk() const override { return 1; }
  Result<Weight> adopt(const Weight& w, Placement where) override {
    EXPECT_EQ(n_begun, 1);
    EXPECT_EQ(n_finished, 0);
    if (std::ssize(given) == fails_at) return no_memory("full");
    given.emplace_back(w.data, where);
    return w;
  }
  void begin_loading() override { n_begun++; }
  void finish_loading() override { n_finished++; }

  std::vector<std::pair<const std::byte*, Placement>> given;
  int n_begun = 0, n_finished = 0;
  int64_t fails_at = -1;

 private:
  RefOps ops_;
};

class Adopt : public testing::Test {
 protected:
  Adopt() {
    config_ = flash_config();
    config_.n_layers = 4;
    config_.layers = {LayerKind::kSliding, LayerKind::kCsa, LayerKind::kHca, LayerKind::kCsa};
    weights_.layers.resize(4);
    // Addresses only: nothing reads them.
    each_tensor(config_, weights_, [&](const TensorSpec& t, Weight& w) {
      w = {reinterpret_cast<const std::byte*>(next_), DType::kF16, t.dims[0],
           t.dims.size() > 1 ? t.dims[1] : 1, t.dims.size() > 2 ? t.dims[2] : 1};
      next_ += w.n_bytes();
      total_ += w.n_bytes();
      n_++;
    });
  }
  bool is_on_host(const Weight& w) const {
    const auto at = std::find_if(backend_.given.begin(), backend_.given.end(),
                                 [&](const auto& g) { return g.first == w.data; });
    return at != backend_.given.end() && at->second == Placement::kHost;
  }

  Config config_;
  Weights weights_;
  NotingBackend backend_;
  uintptr_t next_ = 4096;
  int64_t total_ = 0;
  int n_ = 0;
};

TEST_F(Adopt, TellsEveryByteOnceAndThenFinishes) {
  std::vector<int64_t> told;
  EXPECT_TRUE(
      adopt_weights(config_, weights_, backend_, 0, [&](int64_t n) { told.push_back(n); }).ok());
  EXPECT_EQ(std::ssize(told), n_);
  EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
  EXPECT_EQ(told.back(), total_);
  EXPECT_EQ(adopted_bytes(config_, weights_), total_);
  EXPECT_EQ(backend_.n_finished, 1);
}

// As in files of `synth --alias-experts`: the bar must not be full after the first layers.
TEST_F(Adopt, SharedBytesCountOnce) {
  int64_t shared = 0;
  for (LayerWeights& l : weights_.layers)
    for (Weight LayerWeights::*field :
         {&LayerWeights::gate_exps, &LayerWeights::up_exps, &LayerWeights::down_exps}) {
      if (&l != weights_.layers.data()) shared += (l.*field).n_bytes();
      l.*field = weights_.layers[0].*field;
    }
  int64_t told = 0;
  EXPECT_TRUE(adopt_weights(config_, weights_, backend_, 0, [&](int64_t n) { told = n; }).ok());
  EXPECT_EQ(told, total_ - shared);
  EXPECT_EQ(adopted_bytes(config_, weights_), total_ - shared);
}

TEST_F(Adopt, LastExpertsStayOnTheHostUntilTheyAreEnough) {
  const std::vector<LayerWeights>& layers = weights_.layers;
  const int64_t stack = layers[3].down_exps.n_bytes();
  EXPECT_TRUE(adopt_weights(config_, weights_, backend_, 3 * stack + 1).ok());
  int64_t on_host = 0;
  for (const auto& [data, where] : backend_.given) on_host += where == Placement::kHost;
  EXPECT_EQ(on_host, 4) << "whole stacks, not less than asked for";
  EXPECT_TRUE(is_on_host(layers[3].gate_exps));
  EXPECT_TRUE(is_on_host(layers[3].up_exps));
  EXPECT_TRUE(is_on_host(layers[3].down_exps));
  EXPECT_TRUE(is_on_host(layers[2].gate_exps) || is_on_host(layers[2].up_exps) ||
              is_on_host(layers[2].down_exps));
  EXPECT_FALSE(is_on_host(layers[3].gate_shexp)) << "every token reads it";
}

TEST_F(Adopt, SaysWhichWeightDidNotFit) {
  backend_.fails_at = 7;
  const auto adopted = adopt_weights(config_, weights_, backend_);
  EXPECT_EQ(adopted.status().code(), Code::kNoMemory);
  EXPECT_NE(adopted.status().message().find(".weight"), std::string::npos)
      << adopted.status().message();
  EXPECT_EQ(std::ssize(backend_.given), 7) << "none after it";
  EXPECT_EQ(backend_.n_finished, 1) << "the file may be unmapped";
}

}  // namespace
}  // namespace narwhal
