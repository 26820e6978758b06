#include "backend/gpu/kernel_ops.h"

#include <fmt/format.h>

#include "backend/gpu/packed.h"
#include "backend/gpu/views.h"
#include "base/check.h"

namespace narwhal::gpu {
namespace {

using Inputs = kernels::AttentionInputs;

constexpr int kFewestTileTokens = 32;  // of all devices

}  // namespace

Status KernelOps::check(const StepLimits& limits) {
  const auto refuse = [](const char* what, int64_t found, int64_t most) {
    return failed(fmt::format("the model has {} {}, GPU kernels hold at most {}; use --backend cpu",
                              found, what, most));
  };
  if (limits.n_hc > kernels::kMaxStreams)
    return refuse("streams", limits.n_hc, kernels::kMaxStreams);
  if (limits.n_experts > kernels::Route::kMaxExperts)
    return refuse("experts", limits.n_experts, kernels::Route::kMaxExperts);
  if (limits.n_experts_used > kernels::Route::kMaxUsed)
    return refuse("experts per token", limits.n_experts_used, kernels::Route::kMaxUsed);
  if (limits.head_dim > kernels::kMaxRow)
    return refuse("dims per head", limits.head_dim, kernels::kMaxRow);
  return ok_status();
}

template <class K>
void KernelOps::run_beside(const K& kernel, K Inputs::*place, int Inputs::*n, int64_t n_groups) {
  if (!independent_ || inputs_.*n > 0) return queue_.run(kernel, n_groups);
  inputs_.*place = kernel;
  inputs_.*n = static_cast<int>(n_groups);
}

void KernelOps::end_independent() {
  independent_ = false;
  queue_.run(inputs_, inputs_.n_groups());
  inputs_ = {};
}

int64_t KernelOps::place(const StepLimits& limits, std::byte* base, Scratch& s) {
  int64_t at = 0;
  const auto take = [&](auto*& p, int64_t count) {
    p = base ? reinterpret_cast<std::remove_reference_t<decltype(p)>>(base + at) : nullptr;
    at += (count * 4 + 255) / 256 * 256;
  };
  const int64_t n_pairs = int64_t{limits.n_rows} * limits.n_experts_used;
  const int64_t few = std::min(limits.n_rows, kFewRows);
  take(s.pairs, n_pairs);
  take(s.tiles, 3 * (n_pairs / kFewestTileTokens + limits.n_experts + 1));
  take(s.n_tiles, 1);
  take(s.expert_down, limits.n_rows > kFewRows ? n_pairs * limits.d_model : 0);
  const int64_t inputs = std::max<int64_t>(limits.max_inputs, limits.max_width);
  const int64_t expert_inputs = limits.expert_inputs > 0
                                    ? limits.expert_inputs
                                    : int64_t{limits.max_width} * limits.n_experts_used;
  s.n_halves = limits.n_rows > kFewRows
                   ? limits.n_rows * std::max(inputs, limits.d_model + expert_inputs)
                   : 0;
  take(s.halves, (s.n_halves + 1) / 2);
  take(s.parts, few * limits.n_heads * kernels::kMaxParts * (limits.head_dim + 2));
  const int64_t n_mixes = int64_t{limits.n_hc} * (2 + limits.n_hc);
  take(s.hc_partial, limits.n_rows * groups(limits.d_model, kernels::kHcColumns) * (n_mixes + 1));
  take(s.best_keys, few * kernels::kBestSlices * kernels::kBestOfSlice * 2);
  take(s.best_nans, few * kernels::kBestSlices);
  return at;
}

void KernelOps::rope_table(const BatchRows& b, const float* freq, int rope, float* out) {
  const kernels::RopeTable k{rows_of(b), freq, rope, out};
  queue_.run(k, groups(int64_t{b.n_rows} * (rope / 2), k.kThreads));
}

void KernelOps::rms_norm(int n, int64_t d, const float* x, const float* w, float eps, float* y) {
  queue_.run(kernels::RmsNorm{d, x, w, eps, y}, n);
}

void KernelOps::add(int64_t n, const float* b, float* a) {
  const kernels::Add k{n, b, a};
  queue_.run(k, groups(n, k.kThreads));
}

void KernelOps::swiglu(int64_t n, float limit, const float* u, float* g) {
  const kernels::SwiGlu k{n, limit, u, g};
  queue_.run(k, groups(n, k.kThreads));
}

void KernelOps::gather_rows(int n_out, const int32_t* index, int64_t d, const float* src,
                            float* out) {
  const int pieces = static_cast<int>(groups(d, kernels::GatherRows::kPiece));
  queue_.run(kernels::GatherRows{index, d, pieces, src, out}, int64_t{n_out} * pieces);
}

void KernelOps::head_norm(int n, int n_heads, int dim, float eps, float* q) {
  head_norm_rope(n, n_heads, dim, 0, eps, nullptr, q);
}

void KernelOps::head_norm_rope(int n, int n_heads, int dim, int rope, float eps, const float* table,
                               float* q) {
  const kernels::HeadNormRope k{n * n_heads, n_heads, dim, rope, eps, table, q};
  run_beside(k, &Inputs::query, &Inputs::n_query, groups(k.n_heads_in_all, k.kHeads));
}

void KernelOps::rope_tail(int n, int n_heads, int dim, int rope, const float* table, bool inverse,
                          float* x) {
  const kernels::RopeTail k{
      int64_t{n} * n_heads * (rope / 2), n_heads, dim, rope, inverse ? -1.0f : 1.0f, table, x};
  queue_.run(k, groups(k.n_pairs, k.kThreads));
}

void KernelOps::encode_rows(const RowFormat& format, int n, const float* x, std::byte* out) {
  queue_.run(kernels::EncodeRows{format_of(format), x, reinterpret_cast<uint8_t*>(out)}, n);
}

void KernelOps::make_kv_rows(const RowFormat& format, int n, int rope, const float* norm, float eps,
                             const float* table, float* kv, std::byte* rows) {
  run_beside(kernels::MakeKvRows{format_of(format), rope, eps, norm, table, kv,
                                 reinterpret_cast<uint8_t*>(rows)},
             &Inputs::kv, &Inputs::n_kv, n);
}

void KernelOps::index_query(const RowFormat& format, int n, int n_heads, float* q) {
  index_heads(format, n, n_heads, 0, nullptr, q);
}

void KernelOps::index_heads(const RowFormat& format, int n, int n_heads, int rope,
                            const float* table, float* q) {
  if (format.kind != RowFormat::Kind::kIndex) {
    if (rope > 0) rope_tail(n, n_heads, format.dim, rope, table, false, q);
    return;
  }
  const kernels::IndexQuery k{format_of(format), n * n_heads, n_heads, rope, table, q};
  run_beside(k, &Inputs::index_query, &Inputs::n_index_query, groups(k.n_heads_in_all, k.kHeads));
}

namespace {

kernels::Compress compressor(const BatchRows& b, const CompressorParams& p, const float* k,
                             const float* s) {
  NW_CHECK(p.out.format.dim <= kernels::kMaxRow, "row of {}", p.out.format.dim);
  return {rows_of(b),
          p.ratio,
          p.rope,
          p.overlap ? 1 : 0,
          p.rms_eps,
          p.norm,
          p.rope_freq,
          ring_of(p.k_ring),
          ring_of(p.s_ring),
          paged_of(p.out),
          kernels::kNoApe,
          nullptr,
          k,
          s};
}

int ape_type(DType type) {
  return type == DType::kF32    ? kernels::kApeF32
         : type == DType::kF16  ? kernels::kApeF16
         : type == DType::kBF16 ? kernels::kApeBf16
                                : kernels::kNoApe;
}

}  // namespace

void KernelOps::compress(const BatchRows& b, const CompressorParams& p, const float* k,
                         const float* s) {
  queue_.run(compressor(b, p, k, s), b.n_rows);
}

void KernelOps::compressor_step(const BatchRows& b, const CompressorParams& p, const Weight& ape,
                                const float* k, float* s) {
  kernels::Compress kernel = compressor(b, p, k, s);
  kernel.ape_type = ape_type(ape.type);
  kernel.ape = reinterpret_cast<const uint8_t*>(ape.data);
  // Groups store while others read: what a window looks back to must not be overwritten.
  const int oldest = (p.overlap ? 2 : 1) * p.ratio;
  const bool apart = oldest + b.n_rows <= std::min(p.k_ring.capacity, p.s_ring.capacity);
  if (kernel.ape_type == kernels::kNoApe || !apart) return Ops::compressor_step(b, p, ape, k, s);
  const bool second = inputs_.n_rows > 0;
  run_beside(kernel, second ? &Inputs::index_rows : &Inputs::rows,
             second ? &Inputs::n_index_rows : &Inputs::n_rows, b.n_rows);
}

void KernelOps::ring_store(const BatchRows& b, const Ring& ring, const std::byte* src) {
  queue_.run(kernels::RingStore{rows_of(b), ring_of(ring), reinterpret_cast<const uint8_t*>(src)},
             b.n_rows);
}

// The number of groups changes how fast it goes, never a score.
template <int kHeadTiles, int kQueries>
void KernelOps::index_tiles(const BatchRows& b, const IndexParams& p, int spared, const float* q,
                            const float* w, float* scores) {
  kernels::IndexTile<kHeadTiles, kQueries> k{};
  k.b = rows_of(b);
  k.n_heads = p.n_heads;
  k.max_rows = p.max_rows;
  k.spared = spared;
  // Many queries: a group takes a thousand keys in a row for what it costs to load its queries.
  k.stretch = kQueries == 1 ? 1 : 32;
  const int64_t parts = groups(b.n_rows, kQueries);
  k.n_splits = static_cast<int>(
      std::min(groups(p.max_rows, k.kKeys * k.stretch), groups(kQueries == 1 ? 512 : 1024, parts)));
  k.rows = paged_of(p.rows);
  k.q = q;
  k.w = w;
  k.scores = scores;
  queue_.run(k, parts * k.n_splits);
}

// Of queries that see more than `spared` rows.
void KernelOps::index_scores_above(const BatchRows& b, const IndexParams& p, int spared,
                                   const float* q, const float* w, float* scores) {
  if (!exact_ && p.rows.format.kind == RowFormat::Kind::kIndex && p.rows.format.dim == 128 &&
      p.n_heads <= 64) {
    const bool few = b.n_rows <= kFewRows;
    if (p.n_heads <= 16)
      return few ? index_tiles<1, 1>(b, p, spared, q, w, scores)
                 : index_tiles<1, 4>(b, p, spared, q, w, scores);
    return few ? index_tiles<4, 1>(b, p, spared, q, w, scores)
               : index_tiles<4, 4>(b, p, spared, q, w, scores);
  }
  const auto launch = [&](auto kernel) {
    kernel = {rows_of(b), p.n_heads, p.max_rows, spared, paged_of(p.rows), q, w, scores};
    queue_.run(kernel, b.n_rows * groups(p.max_rows, kernel.kThreads));
  };
  switch (p.rows.format.dim) {
    case 32:
      return launch(kernels::IndexScores<32>{});
    case 64:
      return launch(kernels::IndexScores<64>{});
    default:
      NW_CHECK(p.rows.format.dim == 128, "index rows of {}", p.rows.format.dim);
      return launch(kernels::IndexScores<128>{});
  }
}

void KernelOps::index_scores(const BatchRows& b, const IndexParams& p, const float* q,
                             const float* w, float* scores) {
  index_scores_above(b, p, 0, q, w, scores);
}

// Where every visible row is selected, nothing looks at the scores.
void KernelOps::index_select(const BatchRows& b, const IndexParams& p, const float* q,
                             const float* w, float* scores, int32_t* selected,
                             int32_t* n_selected) {
  for (int first = 0; first < b.n_rows; first += p.score_rows) {
    const BatchRows part{std::min(p.score_rows, b.n_rows - first), b.token + first,
                         b.position + first, b.slot + first, b.first_row + first};
    index_scores_above(part, p, p.top_k, q + int64_t{first} * p.n_heads * p.rows.format.dim,
                       w + int64_t{first} * p.n_heads, scores);
    top_k(part, p, scores, selected + int64_t{first} * p.top_k, n_selected + first);
  }
}

void KernelOps::top_k(const BatchRows& b, const IndexParams& p, const float* scores,
                      int32_t* selected, int32_t* n_selected) {
  queue_.run(kernels::TopK{rows_of(b), p.top_k, p.max_rows, scores, selected, n_selected},
             b.n_rows);
}

kernels::AttentionView KernelOps::attention_view(const BatchRows& b, const AttentionParams& p,
                                                 int rope, const float* table, const float* q,
                                                 float* out) const {
  NW_CHECK(p.head_dim <= kernels::kMaxRow && p.head_dim % 2 == 0, "heads of {}", p.head_dim);
  return {rows_of(b),
          p.n_heads,
          p.head_dim,
          p.window,
          p.ratio,
          p.top_k,
          1 / std::sqrt(static_cast<float>(p.head_dim)),
          format_of(p.row),
          reinterpret_cast<const uint8_t*>(p.batch_rows),
          ring_of(p.ring),
          p.ratio == 0 ? kernels::PagedView{} : paged_of(p.compressed),
          p.selected,
          p.n_selected,
          p.sinks,
          q,
          scratch_.parts,
          out,
          rope,
          table};
}

bool KernelOps::wide_attention(const AttentionParams& p) const {
  using kernels::AttentionWide;
  const auto fits = [&](const RowFormat& f) {
    return f.kind == RowFormat::Kind::kAttention && f.dim == p.head_dim && f.dim % 8 == 0 &&
           f.nope == p.row.nope && f.nope % 64 == 0 && f.bytes() <= AttentionWide::kMostBytes;
  };
  return p.head_dim > 128 && p.n_heads > 32 && fits(p.row) &&
         (p.ratio == 0 || fits(p.compressed.format)) &&
         queue_.shared_bytes() >= int64_t{sizeof(AttentionWide::Shared)};
}

// The matrix units take stored rows; those in f32 and other widths go through f32 arithmetic.
bool KernelOps::on_matrix_units(const AttentionParams& p) const {
  return !exact_ && p.row.kind == RowFormat::Kind::kAttention && p.row.nope % 64 == 0 &&
         p.head_dim % 64 == 0;
}

// Softmax averages of few rows' parts, in scratch.
void KernelOps::attention_parts(const AttentionParams& p, const kernels::AttentionView& view) {
  NW_CHECK(p.n_heads <= limits_.n_heads && p.head_dim <= limits_.head_dim, "{} heads of {}",
           p.n_heads, p.head_dim);
  using kernels::Attention;
  using kernels::AttentionPart;
  const auto launch = [&](const auto& kernel, int heads) {
    queue_.run(kernel, int64_t{view.b.n} * groups(p.n_heads, heads) * kernels::kMaxParts);
  };
  const bool narrow = p.head_dim <= 128;
  if (on_matrix_units(p))
    narrow ? launch(AttentionPart<1>{view}, AttentionPart<1>::kHeads)
           : launch(AttentionPart<4>{view}, AttentionPart<4>::kHeads);
  else
    narrow ? launch(Attention<1, true>{view}, Attention<1, true>::kGroupHeads)
           : launch(Attention<4, true>{view}, Attention<4, true>::kGroupHeads);
}

// All parts of a query in one group.
void KernelOps::attention_whole(const AttentionParams& p, const kernels::AttentionView& view) {
  using kernels::Attention;
  using kernels::AttentionTile;
  using kernels::AttentionWide;
  const auto launch = [&](const auto& kernel, int heads) {
    queue_.run(kernel, int64_t{view.b.n} * groups(p.n_heads, heads));
  };
  const bool narrow = p.head_dim <= 128;
  if (exact_)
    narrow ? launch(Attention<1, false>{view}, Attention<1, false>::kGroupHeads)
           : launch(Attention<4, false>{view}, Attention<4, false>::kGroupHeads);
  else if (wide_attention(p))
    launch(AttentionWide{view}, AttentionWide::kTileHeads);
  else
    narrow ? launch(AttentionTile<1>{view}, AttentionTile<1>::kTileHeads)
           : launch(AttentionTile<4>{view}, AttentionTile<4>::kTileHeads);
}

void KernelOps::attention(const BatchRows& b, const AttentionParams& p, const float* q,
                          float* out) {
  attend(b, p, 0, nullptr, q, out, false);
}

void KernelOps::attention_step(const BatchRows& b, const AttentionParams& p, int rope,
                               const float* table, const float* q, float* out) {
  attend(b, p, rope, table, q, out, true);
}

// `store`: the step's rows go into the ring at the end.
void KernelOps::attend(const BatchRows& b, const AttentionParams& p, int rope, const float* table,
                       const float* q, float* out, bool store) {
  const kernels::AttentionView view = attention_view(b, p, rope, table, q, out);
  if (b.n_rows > kFewRows) {
    attention_whole(p, view);
    if (rope > 0) rope_tail(b.n_rows, p.n_heads, p.head_dim, rope, table, true, out);
  } else {
    attention_parts(p, view);
    const int64_t n = int64_t{b.n_rows} * p.n_heads;
    if (on_matrix_units(p))
      return queue_.run(kernels::AttentionMerge{view}, store ? n + b.n_rows : n);
    queue_.run(kernels::AttentionJoin{view}, n);
  }
  if (store) ring_store(b, p.ring, p.batch_rows);
}

void KernelOps::route(const BatchRows& b, const float* logits, int n_experts, const float* bias,
                      const int32_t* tid2eid, int k, float scale, int32_t* ids, float* weights) {
  queue_.run(kernels::Route{rows_of(b), n_experts, k, scale, logits, bias, tid2eid, ids, weights},
             b.n_rows);
}

void KernelOps::best_logits(int n, int n_vocab, const float* logits, Candidates* best) {
  using kernels::BestLogits;
  static_assert(Candidates::kMost == kernels::kBestLogits &&
                sizeof(Candidates) == BestLogits::kWords * sizeof(int32_t));
  const bool sliced = n_vocab > kernels::kKeysEach * BestLogits::kThreads;
  for (int first = 0; first < n; first += kFewRows) {
    const int count = std::min(n - first, kFewRows);
    const float* rows = logits + int64_t{first} * n_vocab;
    if (sliced)
      queue_.run(kernels::BestOfSlice{n_vocab, rows, scratch_.best_keys, scratch_.best_nans},
                 int64_t{count} * kernels::kBestSlices);
    queue_.run(BestLogits{n_vocab, rows, sliced ? scratch_.best_keys : nullptr, scratch_.best_nans,
                          reinterpret_cast<int32_t*>(best + first)},
               count);
  }
}

}  // namespace narwhal::gpu
