// Ops that read weights: the codec is chosen by stored type, width and number of rows.
#include <array>
#include <type_traits>

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

bool fits_tiles(const Weight& w) { return w.type != DType::kF32 && w.n_in % kTileWidth == 0; }

// Integer products: every codec of small integers.
template <class C>
constexpr bool kDots = C::kScaled != 0;

// A row is a multiple of four units (Band).
bool fits_dot(const Weight& w) {
  bool fits = false;
  with_codec(w, [&]<class C>(Use<C>) { fits = kDots<C> && w.n_in % (4 * C::kUnit) == 0; });
  return fits;
}

// Two-bit types have kernels in which every simd takes rows of its own, which pays for very many.
template <class C>
constexpr bool kTallKernels = std::is_same_v<C, CodecIQ2_XXS> || std::is_same_v<C, CodecQ2_K>;

bool is_tall(const Weight& w) {
  bool tall = false;
  with_codec(w, [&]<class C>(Use<C>) {
    if constexpr (kTallKernels<C>)
      tall = w.n_out >= 65536 && w.n_in % TallVec<C, 4>::kTurnColumns == 0;
  });
  return tall;
}

// The simds that share a row, by its length alone: a row's sum keeps its order whatever the other
// products of the launch are. f takes a Band.
template <class F>
void with_band(int64_t n_in, F&& f) {
  constexpr int64_t kShortRow = 1024;
  if (n_in <= kShortRow)
    f(Band<2>());
  else
    f(Band<8>());
}

// Two groups for every multiprocessor, or a group for every tile.
int two_each(const Queue& queue, int64_t n_tiles) {
  return static_cast<int>(std::min<int64_t>(n_tiles, 2 * queue.n_multiprocessors()));
}

// Calls f with the codec of a weight that fits tiles and the rows of a tile, which name the kernel;
// the device's kernel of this name may have fewer (Queue::tile_tokens).
template <class F>
void with_tile(const Weight& w, bool few, F&& f) {
  with_codec(w, [&]<class C>(Use<C> use) {
    if constexpr (kTiles<C>) {
      if (few)
        f(use, std::integral_constant<int, kFewTileTokens>());
      else
        f(use, std::integral_constant<int, kTileTokens>());
    } else {
      NW_CHECK(false, "no tiles for this type");
    }
  });
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
  const uint16_t* halves =
      many(n) && fits_tiles(w) ? to_halves(int64_t{n} * n_groups * w.n_in, x) : nullptr;
  products({&product, 1}, n_groups, n, x, halves, false);
}

const uint16_t* KernelOps::to_halves(int64_t n, const float* x) {
  NW_CHECK(n <= scratch_.n_halves, "{} inputs, memory for {}", n, scratch_.n_halves);
  const Halves k{n, x, scratch_.halves};
  queue_.run(k, groups(n, k.kThreads * k.kValues));
  return scratch_.halves;
}

namespace {

// The products of a MatVec, DotVec or MatTile; gives the number of tiles. All of one type and
// width; more than one only in one group.
template <class K>
int64_t fill(K& kernel, std::span<const Product> all, int n_groups, int n, bool add) {
  int64_t tiles = 0;
  for (size_t i = 0; i < all.size(); i++) {
    NW_CHECK(all[i].w->n_in == all[0].w->n_in, "inputs of {} and {}", all[i].w->n_in,
             all[0].w->n_in);
    kernel.list.matrices[i] = matrix_of(*all[i].w);
    kernel.list.outputs[i] = all[i].y;
    const int64_t per_group = all[i].w->n_out / n_groups;
    kernel.list.n_tiles[i] =
        static_cast<int>(groups(per_group, K::outputs(all[i].w->n_in, per_group)) * n_groups);
    tiles += kernel.list.n_tiles[i];
  }
  kernel.n_groups = n_groups;
  kernel.n = n;
  kernel.add = add;
  return tiles;
}

}  // namespace

// Matrices of one type share a launch, and in decode those of the two usual types.
void KernelOps::matmuls(std::span<const Product> all, int n, const float* x) {
  NW_CHECK(all.size() <= 32, "{} products of one input", all.size());
  if (n == 1 && !exact_ && side_by_side(all, x)) return;
  const uint16_t* halves = nullptr;
  uint32_t done = 0;
  for (size_t first = 0; first < all.size(); first++) {
    if (done >> first & 1) continue;
    std::array<Product, kMaxProducts> same;
    size_t count = 0;
    for (size_t i = first; i < all.size() && count < same.size(); i++) {
      if ((done >> i & 1) || all[i].w->type != all[first].w->type ||
          is_tall(*all[i].w) != is_tall(*all[first].w))
        continue;
      same[count++] = all[i];
      done |= 1u << i;
    }
    const Weight& w = *all[first].w;
    const bool tiles = many(n) && fits_tiles(w);
    if (tiles && !halves) halves = to_halves(n * w.n_in, x);
    products(std::span(same).first(count), 1, n, x, tiles ? halves : nullptr, false);
  }
}

bool KernelOps::side_by_side(std::span<const Product> all, const float* x) {
  if (all.size() > kMaxProducts) return false;
  std::array<Product, kMaxProducts> q8, f16;
  size_t n_q8 = 0, n_f16 = 0;
  for (const Product& p : all) {
    if (p.w->type == DType::kQ8_0)
      q8[n_q8++] = p;
    else if (p.w->type == DType::kF16)
      f16[n_f16++] = p;
    else
      return false;
  }
  if (n_q8 == 0 || n_f16 == 0 || !fits_dot(*q8[0].w)) return false;
  with_band(q8[0].w->n_in, [&]<class B>(B) {
    Side<DotVec<B, CodecQ8_0, 1>, MatVec<CodecF16, 1>> kernel{};
    const int64_t tiles = fill(kernel.a, std::span(q8).first(n_q8), 1, 1, false);
    const int64_t n_b = fill(kernel.b, std::span(f16).first(n_f16), 1, 1, false);
    kernel.a.x = kernel.b.x = x;
    kernel.n_a = kernel.a.n_stretches = two_each(queue_, tiles);
    queue_.run(kernel, kernel.n_a + n_b);
  });
  return true;
}

void KernelOps::tall_product(const Product& p, int n, const float* x, bool add) {
  const auto launch = [&](auto kernel) {
    kernel.w = matrix_of(*p.w);
    kernel.n = n;
    kernel.add = add;
    kernel.x = x;
    kernel.y = p.y;
    const int64_t bands = kernel.bands(p.w->n_out);
    const int n_groups = static_cast<int>(std::min<int64_t>(bands, queue_.n_multiprocessors()));
    kernel.each = static_cast<unsigned>(bands / n_groups);
    kernel.longer = static_cast<unsigned>(bands % n_groups);
    queue_.run(kernel, n_groups);
  };
  with_codec(*p.w, [&]<class C>(Use<C>) {
    if constexpr (kTallKernels<C>) {
      if (n == 1)
        launch(TallVec<C, 1>{});
      else
        launch(TallVec<C, 4>{});
    }
  });
}

void KernelOps::products(std::span<const Product> all, int n_groups, int n, const float* x,
                         const uint16_t* halves, bool add) {
  const Weight& first = *all[0].w;
  if (halves) {
    int64_t tiles = 0;
    for (const Product& p : all) tiles += groups(p.w->n_out / n_groups, kTileOutputs) * n_groups;
    const bool few = n <= queue_.tile_tokens(true) ||
                     tiles * groups(n, queue_.tile_tokens(false)) < queue_.n_multiprocessors();
    return with_tile(first, few, [&]<class C, int T>(Use<C>, std::integral_constant<int, T>) {
      MatTile<C, T> kernel{};
      fill(kernel, all, n_groups, n, add);
      kernel.x = halves;
      queue_.run(kernel, tiles * groups(n, queue_.tile_tokens(few)));
    });
  }
  if (!exact_ && n_groups == 1 && is_tall(first)) {
    for (const Product& p : all) tall_product(p, n, x, add);
    return;
  }
  with_codec(first, [&]<class C>(Use<C>) {
    const auto launch = [&](auto kernel) {
      const int64_t tiles = fill(kernel, all, n_groups, n, add) * groups(n, kernel.kRows);
      kernel.x = x;
      if constexpr (requires { kernel.n_stretches; })
        queue_.run(kernel, kernel.n_stretches = two_each(queue_, tiles));
      else
        queue_.run(kernel, tiles);
    };
    if constexpr (kDots<C>)
      if (!exact_ && fits_dot(first))
        return with_band(first.n_in, [&]<class B>(B) {
          if (n == 1)
            launch(DotVec<B, C, 1>{});
          else
            launch(DotVec<B, C, 4>{});
        });
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
  expert_hidden(p, n, k, x, ids, weights, hidden);
  with_codec(p.w2, [&]<class C>(Use<C>) {
    if constexpr (kDots<C>)
      if (!exact_ && fits_dot(p.w2)) {
        const DotDown<Band<8>, C, NoCodec> kernel{matrix_of(p.w2), {}, k, ids, hidden, nullptr, y};
        return queue_.run(kernel, n * groups(p.w2.n_out, kernel.kOutputs));
      }
    const ExpertDown<C> kernel{matrix_of(p.w2), k, ids, hidden, y};
    queue_.run(kernel, n * groups(p.w2.n_out, kernel.kOutputs));
  });
}

// In one launch each way where the types allow.
void KernelOps::experts(const ExpertParams& routed, const ExpertParams& shared, int n, int k,
                        const float* x, const int32_t* ids, const float* weights,
                        const ExpertScratch& scratch, float* y) {
  bool together =
      n <= kFewRows && !exact_ && routed.w1.type == routed.w3.type && routed.limit == shared.limit;
  for (const Weight* w : {&shared.w1, &shared.w3, &shared.w2})
    together = together && w->type == DType::kQ8_0 && fits_dot(*w);
  for (const Weight* w : {&routed.w1, &routed.w2}) together = together && fits_dot(*w);
  if (!together) return Ops::experts(routed, shared, n, k, x, ids, weights, scratch, y);
  with_codec(routed.w1, [&]<class C>(Use<C>) {
    if constexpr (kDots<C>) {
      DotHidden<Band<4>, C, CodecQ8_0> kernel{matrix_of(routed.w1),
                                              matrix_of(routed.w3),
                                              matrix_of(shared.w1),
                                              matrix_of(shared.w3),
                                              n,
                                              k,
                                              0,
                                              routed.limit,
                                              x,
                                              ids,
                                              weights,
                                              scratch.hidden,
                                              scratch.gate};
      queue_.run(kernel, kernel.n_spread = two_each(queue_, kernel.n_tiles()));
    }
  });
  with_codec(routed.w2, [&]<class C>(Use<C>) {
    if constexpr (kDots<C>) {
      const DotDown<Band<8>, C, CodecQ8_0> kernel{
          matrix_of(routed.w2), matrix_of(shared.w2), k, ids, scratch.hidden, scratch.gate, y};
      queue_.run(kernel, n * groups(routed.w2.n_out, kernel.kOutputs));
    }
  });
}

// hidden [n][k][inner]; ids null: one expert of weight 1.
void KernelOps::expert_hidden(const ExpertParams& p, int n, int k, const float* x,
                              const int32_t* ids, const float* weights, float* hidden) {
  with_codec(p.w1, [&]<class C>(Use<C>) {
    const Matrix w1 = matrix_of(p.w1), w3 = matrix_of(p.w3);
    if constexpr (kDots<C>)
      if (!exact_ && fits_dot(p.w1)) {
        DotHidden<Band<4>, C, NoCodec> kernel{w1,      w3, {},  {},      n,      k,      0,
                                              p.limit, x,  ids, weights, hidden, nullptr};
        return queue_.run(kernel, kernel.n_spread = two_each(queue_, kernel.n_tiles()));
      }
    const ExpertHidden<C> kernel{w1, w3, k, p.limit, x, ids, weights, hidden};
    queue_.run(kernel, int64_t{n} * k * groups(p.w1.n_out, kernel.kOutputs));
  });
}

void KernelOps::shared_expert(const ExpertParams& p, int n, const float* x, float* gate, float* up,
                              float* down, float* y) {
  const Product down_product{&p.w2, y};
  if (many(n) && fits_tiles(p.w1) && fits_tiles(p.w2)) {
    const Product gate_and_up[] = {{&p.w1, gate}, {&p.w3, up}};
    matmuls(gate_and_up, n, x);
    swiglu(n * p.w1.n_out, p.limit, up, gate);
    const uint16_t* halves = to_halves(n * p.w2.n_in, gate);
    return products({&down_product, 1}, 1, n, gate, halves, true);
  }
  if (n > kFewRows || p.w1.type != p.w3.type) return Ops::shared_expert(p, n, x, gate, up, down, y);
  expert_hidden(p, n, 1, x, nullptr, nullptr, gate);
  products({&down_product, 1}, 1, n, gate, nullptr, true);
}

void KernelOps::expert_tiles(const ExpertParams& p, int n, int k, const float* x,
                             const int32_t* ids, const float* weights, float* hidden, float* y) {
  const int n_pairs = n * k, n_experts = static_cast<int>(p.w1.n_experts);
  NW_CHECK(n <= limits_.n_rows && k <= limits_.n_experts_used && p.w2.n_out <= limits_.d_model,
           "{} rows of {}, {} experts each", n, p.w2.n_out, k);
  const int64_t n_x = n * p.w1.n_in, n_hidden = n_pairs * p.w1.n_out;
  NW_CHECK(n_x + n_hidden <= scratch_.n_halves, "{} inputs, memory for {}", n_x + n_hidden,
           scratch_.n_halves);
  const uint16_t* x_halves = to_halves(n_x, x);
  uint16_t* hidden_halves = scratch_.halves + n_x;
  const ExpertOrder order{scratch_.pairs, scratch_.tiles, scratch_.n_tiles};
  // Small tiles where most experts would not fill more than one of them.
  const bool few = n_pairs <= n_experts * (queue_.tile_tokens(true) * 7 / 8);
  const int tile_pairs = queue_.tile_tokens(few);
  // As many tiles as there can be; those beyond the number found return at once.
  const int64_t most = n_pairs / tile_pairs + std::min(n_experts, n_pairs);
  queue_.run(ExpertSort{n_pairs, n_experts, tile_pairs, ids, order}, 1);
  with_tile(p.w1, few, [&]<class C, int T>(Use<C>, std::integral_constant<int, T>) {
    using Kernel = ExpertHiddenTile<C, T>;
    queue_.run(Kernel{matrix_of(p.w1), matrix_of(p.w3), k, p.limit, order, x_halves, weights,
                      hidden, hidden_halves},
               most * groups(p.w1.n_out, Kernel::kOutputs));
  });
  with_tile(p.w2, few, [&]<class C, int T>(Use<C>, std::integral_constant<int, T>) {
    queue_.run(ExpertDownTile<C, T>{matrix_of(p.w2), order, hidden_halves, scratch_.expert_down},
               most * groups(p.w2.n_out, kTileOutputs));
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
  if (!plain || p.d % 8 != 0 || p.d > HcFinish::kMaxWidth) return false;
  const int slices = static_cast<int>(groups(p.d, kHcColumns));
  NW_CHECK(n <= limits_.n_rows && p.n_hc <= limits_.n_hc && p.d <= limits_.d_model,
           "{} rows of {} x {}", n, p.n_hc, p.d);
  with_codec(p.fn, [&]<class C>(Use<C>) {
    const auto launch = [&](auto kernel, int rows) {
      kernel = {matrix_of(p.fn), p.d, n, p.n_hc, slices, out, gates, X, scratch_.hc_partial};
      queue_.run(kernel, groups(n, rows) * slices);
    };
    if constexpr (!C::kScaled && C::kRun >= 4)
      n <= kFewRows ? launch(HcMix<C, 1>{}, 1) : launch(HcMix<C, 4>{}, 4);
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
