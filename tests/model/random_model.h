// A small model of random weights in memory, for properties that hold for any weights.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "backend/backend.h"
#include "model/adopt.h"
#include "model/config.h"
#include "model/weights.h"
#include "session/kv_cache.h"
#include "session/runner.h"

namespace narwhal {

// Other sequences of random operations in each round of --gtest_shuffle --gtest_repeat; otherwise
// 0.
inline uint32_t extra_seed() {
  return static_cast<uint32_t>(testing::UnitTest::GetInstance()->random_seed());
}

// All layer kinds, hash and learned routing, a window and a top-k that both bite within 100 tokens.
inline Config small_config() {
  Config c;
  c.name = "small";
  c.n_vocab = 40;
  c.max_ctx = 4096;
  c.d_model = 32;
  c.n_heads = 2;
  c.head_dim = 128;
  c.q_lora = 32;
  c.o_groups = 2;
  c.o_lora = 16;
  c.window = 16;
  c.layers = {LayerKind::kSliding, LayerKind::kCsa, LayerKind::kHca, LayerKind::kCsa};
  c.n_layers = 4;
  c.n_index_heads = 3;
  c.index_dim = 64;
  c.index_top_k = 6;
  c.n_experts = 5;
  c.n_experts_used = 2;
  c.d_expert = 32;
  c.n_hash_layers = 2;
  c.swiglu_limit.assign(c.n_layers, 10.0f);
  return c;
}

// Owns the values that its Weights point to.
class RandomWeights {
 public:
  explicit RandomWeights(const Config& c, uint32_t seed = 5) : rng_(seed) {
    weights_.layers.resize(c.n_layers);
    each_tensor(c, weights_, [&](const TensorSpec& t, Weight& w) {
      int64_t n = 1;
      for (const int64_t d : t.dims) n *= d;
      values_.push_back(std::make_unique<std::vector<float>>(n));
      std::vector<float>& v = *values_.back();
      const bool hash = t.role == TensorRole::kHashTable;
      const bool norm = t.name.find("norm") != std::string::npos;
      const float spread = t.role == TensorRole::kVector || t.role == TensorRole::kEmbedding
                               ? 0.5f
                               : 1 / std::sqrt(static_cast<float>(t.dims[0]));
      std::normal_distribution<float> normal(norm ? 1.0f : 0.0f, spread);
      for (float& x : v) x = normal(rng_);
      for (int64_t i = 0; hash && i < n; i++) {
        const auto e = static_cast<int32_t>((i / 2 + i % 2 * (1 + i / 2 % 3)) % c.n_experts);
        std::memcpy(&v[i], &e, sizeof e);
      }
      w = Weight{reinterpret_cast<const std::byte*>(v.data()), hash ? DType::kI32 : DType::kF32,
                 t.dims[0], t.dims.size() > 1 ? t.dims[1] : 1, t.dims.size() > 2 ? t.dims[2] : 1};
    });
  }
  const Weights& weights() const { return weights_; }

 private:
  std::mt19937 rng_;
  std::vector<std::unique_ptr<std::vector<float>>> values_;
  Weights weights_;
};

inline std::vector<int32_t> random_tokens(int64_t n, int n_vocab, uint32_t seed = 9) {
  std::mt19937 rng(seed);
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng() % n_vocab);
  return ids;
}

// A model ready to step, with `n_slots` sequences of up to `n_ctx` tokens. Cache memory starts as
// NaN bytes, so that a value read before it is written shows.
class Rig {
 public:
  Rig(const Config& config, const Weights& weights, KvPrecision precision,
      const std::string& backend = "cpu", int n_threads = 2, int n_slots = 3, int64_t n_ctx = 1024,
      int n_rows = 320)
      : config_(config),
        layout_(make_kv_layout(config_, precision)),
        backend_(*make_backend(backend.substr(0, backend.find('_')),
                               options(backend, precision, n_threads))) {
    const int max_pages = static_cast<int>(KvLayout::n_pages(n_ctx));
    cache_ = *KvCache::create(layout_, *backend_, n_slots, int64_t{max_pages} * n_slots, max_pages);
    weights_ = *adopt_weights(config_, weights, *backend_);
    runner_ = *Runner::create(config_, weights_, layout_, *backend_, {n_rows, n_rows, n_ctx});
    const KvMemory m = cache_->memory();
    const auto poison = [&](std::byte* memory, int64_t n_bytes) {
      const std::vector<std::byte> bytes(n_bytes, std::byte{0xFF});
      backend_->copy_in(memory, bytes.data(), n_bytes);
    };
    poison(m.pages, int64_t{max_pages} * n_slots * layout_.page_bytes);
    poison(m.frontiers, n_slots * layout_.frontier_bytes);
    for (int i = 0; i < n_slots; i++) slots_.push_back(*cache_->acquire());
  }

  int slot(int i) const { return slots_[i]; }
  KvCache& cache() { return *cache_; }
  Runner& runner() { return *runner_; }
  const KvLayout& layout() const { return layout_; }

  // One step of several parts; returns the logits asked for, one row after another.
  std::vector<float> step(const std::vector<StepPart>& parts) {
    int n = 0;
    for (const StepPart& p : parts) {
      EXPECT_TRUE(
          cache_->prepare(p.slot, p.position, p.position + static_cast<int64_t>(p.tokens.size()))
              .ok());
      n += p.logits == LogitsOf::kAll ? static_cast<int>(p.tokens.size())
                                      : p.logits == LogitsOf::kLast;
    }
    runner_->step(parts, cache_->memory());
    std::vector<float> out;
    for (int i = 0; i < n; i++)
      out.insert(out.end(), runner_->logits(i).begin(), runner_->logits(i).end());
    return out;
  }
  // All logits of tokens [begin, end) of `ids` for sequence i.
  std::vector<float> run(int i, std::span<const int32_t> ids, int64_t begin, int64_t end) {
    return step({{slot(i), begin, ids.subspan(begin, end - begin), LogitsOf::kAll}});
  }

 private:
  // "cpu_avx2" asks for that level of the CPU backend, "emu_rounded" for products as they are by
  // default though the cache is f32.
  static BackendOptions options(const std::string& backend, KvPrecision precision, int n_threads) {
    BackendOptions o;
    o.n_threads = n_threads;
    o.exact_products = precision == KvPrecision::kF32;
    const auto at = backend.find('_');
    const std::string suffix = at == std::string::npos ? "" : backend.substr(at + 1);
    if (suffix == "rounded")
      o.exact_products = false;
    else if (!suffix.empty())
      o.cpu_level = suffix;
    return o;
  }

  Config config_;
  KvLayout layout_;
  std::unique_ptr<Backend> backend_;
  Weights weights_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Runner> runner_;
  std::vector<int> slots_;
};

}  // namespace narwhal
