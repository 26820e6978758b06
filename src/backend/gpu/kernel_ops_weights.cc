// Ops that read weights: the codec is chosen by stored type, width and number of rows.
#include <array>

#include "backend/gpu/kernel_ops.h"
#include "backend/gpu/packed.h"
#include "backend/gpu/views.h"
#include "base/check.h"

namespace narwhal::gpu {
namespace {

using namespace kernels;  // NOLINT(google-build-using-namespace): codec names read better bare

template <class C>
struct Use {
  using Codec = C;
};

// Calls f(Use<Codec>) with the codec of a packed weight.
template <class F>
void with_codec(const Weight& w, F&& f) {
  switch (w.type) {
    case DType::kF32:
      return w.n_in % 4 == 0 ? f(Use<CodecF32>()) : f(Use<CodecF32Odd>());
    case DType::kF16:
      return w.n_in % 8 == 0 ? f(Use<CodecF16>()) : f(Use<CodecF16Odd>());
    case DType::kBF16:
      return w.n_in % 8 == 0 ? f(Use<CodecBF16>()) : f(Use<CodecBF16Odd>());
    case DType::kQ8_0:
      return f(Use<CodecQ8_0>());
    case DType::kQ4_K:
      return f(Use<CodecQ4_K>());
    case DType::kQ2_K:
      return f(Use<CodecQ2_K>());
    case DType::kIQ2_XXS:
      return f(Use<CodecIQ2_XXS>());
    case DType::kMXFP4:
      return f(Use<CodecMXFP4>());
    default:
      NW_CHECK(false, "no kernels for {}", dtype_name(w.type));
  }
}

// Those that tiles take.
template <class C>
constexpr bool kTiles = C::kRun >= 8;

bool fits_tiles(const Weight& w) { return w.type != DType::kF32 && w.n_in % kTileDepth == 0; }

template <template <class> class K, class C, class... A>
void launch_tile(Queue& queue, int64_t n_groups, const A&... arguments) {
  if constexpr (kTiles<C>)
    queue.run(K<C>{arguments...}, n_groups);
  else
    NW_CHECK(false, "no tiles for this type");
}

}  // namespace

void KernelOps::embed(const BatchRows& b, const Weight& table, int n_hc, float* X) {
  with_codec(table, [&]<class C>(Use<C>) {
    queue_.run(Embed<C>{rows_of(b), matrix_of(table), n_hc, X}, b.n_rows);
  });
}

void KernelOps::add_ape(const BatchRows& b, const Weight& ape, int ratio, float* s) {
  with_codec(ape, [&]<class C>(Use<C>) {
    queue_.run(AddApe<C>{rows_of(b), matrix_of(ape), ratio, s}, b.n_rows);
  });
}

void KernelOps::matmul(const Weight& w, int n, const float* x, float* y) {
  grouped_matmul(w, 1, n, x, y);
}

void KernelOps::grouped_matmul(const Weight& w, int n_groups, int n, const float* x, float* y) {
  const Product product{&w, y};
  products({&product, 1}, n_groups, n, x, false);
}

// Matrices of one type share a launch.
void KernelOps::matmuls(std::span<const Product> all, int n, const float* x) {
  NW_CHECK(all.size() <= 32, "{} products of one input", all.size());
  uint32_t done = 0;
  for (size_t first = 0; first < all.size(); first++) {
    if (done >> first & 1) continue;
    std::array<Product, kMaxProducts> same;
    size_t count = 0;
    for (size_t i = first; i < all.size() && count < same.size(); i++) {
      if ((done >> i & 1) || all[i].w->type != all[first].w->type) continue;
      same[count++] = all[i];
      done |= 1u << i;
    }
    products(std::span(same).first(count), 1, n, x, false);
  }
}

// All of one type and width; more than one only in one group.
void KernelOps::products(std::span<const Product> all, int n_groups, int n, const float* x,
                         bool add) {
  const Weight& first = *all[0].w;
  with_codec(first, [&]<class C>(Use<C>) {
    if (!add && many(n) && fits_tiles(first)) {
      for (const Product& p : all) {
        const int64_t tiles = groups(p.w->n_out / n_groups, kTileOutputs) * n_groups;
        launch_tile<MatTile, C>(queue_, tiles * groups(n, kTileTokens), matrix_of(*p.w), n_groups,
                                n, x, p.y);
      }
      return;
    }
    const auto launch = [&]<int kCols>(MatVec<C, kCols> kernel) {
      int64_t tiles = 0;
      for (size_t i = 0; i < all.size(); i++) {
        NW_CHECK(all[i].w->n_in == first.n_in, "inputs of {} and {}", all[i].w->n_in, first.n_in);
        kernel.matrices[i] = matrix_of(*all[i].w);
        kernel.outputs[i] = all[i].y;
        kernel.n_tiles[i] =
            static_cast<int>(groups(all[i].w->n_out / n_groups, kernel.kOutputs) * n_groups);
        tiles += kernel.n_tiles[i];
      }
      kernel.n_groups = n_groups;
      kernel.n = n;
      kernel.add = add;
      kernel.x = x;
      queue_.run(kernel, tiles * groups(n, kCols));
    };
    if (n == 1)
      launch(MatVec<C, 1>{});
    else
      launch(MatVec<C, 4>{});
  });
}

void KernelOps::routed_experts(const ExpertParams& p, int n, int k, const float* x,
                               const int32_t* ids, const float* weights, float* hidden, float* y) {
  NW_CHECK(p.w1.type == p.w3.type, "gate {}, up {}", dtype_name(p.w1.type), dtype_name(p.w3.type));
  if (many(n) && fits_tiles(p.w1) && fits_tiles(p.w2))
    return expert_tiles(p, n, k, x, ids, weights, hidden, y);
  with_codec(p.w1, [&]<class C>(Use<C>) {
    queue_.run(
        ExpertHidden<C>{matrix_of(p.w1), matrix_of(p.w3), k, p.limit, x, ids, weights, hidden},
        int64_t{n} * k * groups(p.w1.n_out, ExpertHidden<C>::kOutputs));
  });
  with_codec(p.w2, [&]<class C>(Use<C>) {
    queue_.run(ExpertDown<C>{matrix_of(p.w2), k, ids, hidden, y},
               n * groups(p.w2.n_out, ExpertDown<C>::kOutputs));
  });
}

void KernelOps::shared_expert(const ExpertParams& p, int n, const float* x, float* gate, float* up,
                              float* down, float* y) {
  if (n > kFewRows || p.w1.type != p.w3.type) return Ops::shared_expert(p, n, x, gate, up, down, y);
  with_codec(p.w1, [&]<class C>(Use<C>) {
    queue_.run(
        ExpertHidden<C>{matrix_of(p.w1), matrix_of(p.w3), 1, p.limit, x, nullptr, nullptr, gate},
        n * groups(p.w1.n_out, ExpertHidden<C>::kOutputs));
  });
  const Product down_product{&p.w2, y};
  products({&down_product, 1}, 1, n, gate, true);
}

void KernelOps::expert_tiles(const ExpertParams& p, int n, int k, const float* x,
                             const int32_t* ids, const float* weights, float* hidden, float* y) {
  const int n_pairs = n * k, n_experts = static_cast<int>(p.w1.n_experts);
  NW_CHECK(n <= limits_.n_rows && k <= limits_.n_experts_used && p.w2.n_out <= limits_.d_model,
           "{} rows of {}, {} experts each", n, p.w2.n_out, k);
  const ExpertOrder order{scratch_.pairs, scratch_.tiles, scratch_.n_tiles};
  // As many tiles as there can be; those beyond the number found return at once.
  const int64_t most = n_pairs / kTileTokens + std::min(n_experts, n_pairs);
  queue_.run(ExpertSort{n_pairs, n_experts, ids, order}, 1);
  with_codec(p.w1, [&]<class C>(Use<C>) {
    launch_tile<ExpertHiddenTile, C>(queue_, most * groups(p.w1.n_out, kTileOutputs / 2),
                                     matrix_of(p.w1), matrix_of(p.w3), k, p.limit, order, x,
                                     weights, hidden);
  });
  with_codec(p.w2, [&]<class C>(Use<C>) {
    launch_tile<ExpertDownTile, C>(queue_, most * groups(p.w2.n_out, kTileOutputs), matrix_of(p.w2),
                                   order, hidden, scratch_.expert_down);
  });
  const ExpertSum sum{n, p.w2.n_out, k, scratch_.expert_down, y};
  queue_.run(sum, groups(n * p.w2.n_out, sum.kThreads));
}

namespace {

HcView view_of(const HcParams& p, int n_mixes) {
  return {p.base, p.scale, p.n_hc, n_mixes, p.sinkhorn_iterations, p.d, p.hc_eps, p.rms_eps};
}

}  // namespace

void KernelOps::hc_gates(const HcParams& p, int n, const float* X, float* mixes) {
  queue_.run(HcGates{view_of(p, p.n_mixes()), X, mixes}, n);
}

void KernelOps::hc_head_gates(const HcParams& p, int n, const float* X, float* mixes) {
  queue_.run(HcGates{view_of(p, p.n_hc), X, mixes}, n);
}

void KernelOps::hc_sum(const HcParams& p, int n, const float* X, const float* gates, int stride,
                       float* x) {
  const HcSum k{n, p.d, p.n_hc, stride, X, gates, x};
  queue_.run(k, groups(n * p.d, k.kThreads));
}

void KernelOps::hc_post(const HcParams& p, int n, const float* out, const float* gates, float* X) {
  const HcPost k{n, p.d, p.n_hc, out, gates, X};
  queue_.run(k, groups(n * p.d, k.kThreads));
}

// `out` null: no hc_post before.
bool KernelOps::fused_hc(const HcParams& p, const float* norm, int n, int n_mixes, const float* out,
                         float* X, float* gates, float* x) {
  const bool plain =
      p.fn.type == DType::kF32 || p.fn.type == DType::kF16 || p.fn.type == DType::kBF16;
  if (!plain || p.d % 8 != 0) return false;
  const int slices = static_cast<int>(groups(p.d, HcMix<CodecF32>::kColumns));
  NW_CHECK(n <= limits_.n_rows && p.n_hc <= limits_.n_hc && p.d <= limits_.d_model,
           "{} rows of {} x {}", n, p.n_hc, p.d);
  with_codec(p.fn, [&]<class C>(Use<C>) {
    if constexpr (!C::kScaled && C::kRun >= 4)
      queue_.run(HcMix<C>{matrix_of(p.fn), p.d, p.n_hc, slices, out, gates, X, scratch_.hc_partial},
                 int64_t{n} * slices);
  });
  queue_.run(HcFinish{view_of(p, n_mixes), slices, scratch_.hc_partial, X, norm, gates, x}, n);
  return true;
}

void KernelOps::hc_pre(const HcParams& p, const float* norm, int n, const float* X, float* gates,
                       float* x) {
  // Without hc_post, X is only read.
  if (!fused_hc(p, norm, n, p.n_mixes(), nullptr, const_cast<float*>(X), gates, x))
    Ops::hc_pre(p, norm, n, X, gates, x);
}

void KernelOps::hc_next(const HcParams& done, const HcParams& next, const float* norm, int n,
                        const float* out, float* gates, float* X, float* x) {
  if (!fused_hc(next, norm, n, next.n_mixes(), out, X, gates, x))
    Ops::hc_next(done, next, norm, n, out, gates, X, x);
}

void KernelOps::hc_head(const HcParams& p, const float* norm, int n, const float* X, float* gates,
                        float* y) {
  if (!fused_hc(p, norm, n, p.n_hc, nullptr, const_cast<float*>(X), gates, y))
    Ops::hc_head(p, norm, n, X, gates, y);
}

}  // namespace narwhal::gpu
