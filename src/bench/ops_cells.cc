// The ops besides the products with large weights, one cell each, with the bytes it must move.
#include <algorithm>

#include "bench/ops_rig.h"

namespace narwhal::bench {
namespace {

using Run = std::function<void(int64_t)>;

// `floats` read and written once.
Cell plain(const char* op, int n, int64_t floats, Run run, const float* out, int64_t n_out) {
  return {op, "-", n, floats * 4, 0, std::move(run), out, n_out};
}

}  // namespace

BatchRows OpsRig::batch(int n) const {
  // The newest n of the chunk's rows; they start the step, so the first one is row 0 of it.
  const int skip = max_rows_ - n;
  return {n, a_.token, a_.position + skip, a_.slot, a_.first_row};
}

HcParams OpsRig::hc_params(const Weight& fn) const {
  return {fn,        parameters_, parameters_ + 1000, c_.n_hc, c_.d_model, c_.sinkhorn_iterations,
          c_.hc_eps, c_.rms_eps};
}

std::vector<Cell> OpsRig::f16_cells(int n) {
  const int64_t d = c_.d_model, streams = c_.n_hc * d;
  Ops& ops = backend_.ops();
  std::vector<Cell> cells;
  const auto add = [&](const char* op, int64_t weight_values, int64_t macs, int64_t floats, Run run,
                       const float* out, int64_t n_out) {
    cells.push_back({op, std::string(dtype_name(format_)), n,
                     row_bytes(format_, weight_values) + floats * 4, macs, std::move(run), out,
                     n_out});
  };
  const int64_t n_vocab = std::min<int64_t>(c_.n_vocab, arena_bytes_ / (2 * d));
  add(
      "embed", n * d, 0, n * streams,
      [=, this, &ops](int64_t) {
        ops.embed(batch(n), adopted({arena_, format_, d, n_vocab}), c_.n_hc, a_.X);
      },
      a_.X, n * streams);
  add(
      "hc_pre", streams * c_.hc_mixes(), n * streams * c_.hc_mixes(), n * (streams + d),
      [=, this, &ops](int64_t turn) {
        ops.hc_pre(hc_params(matrix(streams, c_.hc_mixes(), turn)), parameters_, n, a_.X, a_.gates,
                   a_.x);
      },
      a_.x, n * d);
  add(
      "hc_head", streams * c_.n_hc, n * streams * c_.n_hc, n * (streams + d),
      [=, this, &ops](int64_t turn) {
        ops.hc_head(hc_params(matrix(streams, c_.n_hc, turn)), parameters_, n, a_.X, a_.gates,
                    a_.x);
      },
      a_.x, n * d);
  add(
      "add_ape", 2 * c_.head_dim * 4, 0, n * 4 * c_.head_dim,
      [=, this, &ops](int64_t) {
        ops.add_ape(batch(n), adopted({arena_, format_, 2 * c_.head_dim, 4}), 4, a_.s);
      },
      a_.s, n * 2 * c_.head_dim);
  return cells;
}

std::vector<Cell> OpsRig::q8_cells(int n) {
  const int64_t d = c_.d_model, heads = int64_t{c_.n_heads} * c_.head_dim;
  const int64_t low = int64_t{c_.o_groups} * c_.o_lora, inner = c_.d_expert;
  Ops& ops = backend_.ops();
  std::vector<Cell> cells;
  const std::string format(dtype_name(format_));
  cells.push_back({"grouped_matmul", format, n,
                   row_bytes(format_, heads / c_.o_groups * low) + n * (heads + low) * 4,
                   n * heads / c_.o_groups * low,
                   [=, this, &ops](int64_t turn) {
                     ops.grouped_matmul(matrix(heads / c_.o_groups, low, turn), c_.o_groups, n,
                                        a_.o, a_.o_low);
                   },
                   a_.o_low, n * low});
  cells.push_back(
      {"shared_expert", format, n, row_bytes(format_, 3 * d * inner) + n * 2 * d * 4,
       n * 3 * d * inner,
       [=, this, &ops](int64_t turn) {
         const ExpertParams p{matrix(d, inner, 3 * turn), matrix(d, inner, 3 * turn + 1),
                              matrix(inner, d, 3 * turn + 2), c_.swiglu_limit[0]};
         ops.shared_expert(p, n, a_.x, a_.shared_gate, a_.shared_up, a_.shared_out, a_.out);
       },
       a_.out, n * d});
  return cells;
}

std::vector<Cell> OpsRig::plain_cells(int n) {
  std::vector<Cell> cells;
  stream_cells(n, cells);
  row_cells(n, cells);
  cache_cells(n, cells);
  index_cells(n, cells);
  attention_cells(n, cells);
  return cells;
}

void OpsRig::stream_cells(int n, std::vector<Cell>& cells) {
  const int64_t d = c_.d_model, streams = c_.n_hc * d, mixes = c_.hc_mixes();
  Ops& ops = backend_.ops();
  const HcParams p = hc_params({});
  cells.push_back(plain(
      "hc_gates", n, n * (streams + 2 * mixes),
      [=, this, &ops](int64_t) { ops.hc_gates(p, n, a_.X, a_.gates); }, a_.gates, n * mixes));
  cells.push_back(plain(
      "hc_sum", n, n * (streams + d),
      [=, this, &ops](int64_t) { ops.hc_sum(p, n, a_.X, a_.gates, static_cast<int>(mixes), a_.x); },
      a_.x, n * d));
  cells.push_back(plain(
      "hc_post", n, n * (2 * streams + d),
      [=, this, &ops](int64_t) { ops.hc_post(p, n, a_.out, a_.gates, a_.X); }, a_.X, n * streams));
  cells.push_back(plain(
      "gather_rows", n, 2 * n * streams,
      [=, this, &ops](int64_t) { ops.gather_rows(n, a_.slot, streams, a_.X, a_.o); }, a_.o,
      n * streams));
}

void OpsRig::row_cells(int n, std::vector<Cell>& cells) {
  const int64_t d = c_.d_model, heads = int64_t{c_.n_heads} * c_.head_dim;
  Ops& ops = backend_.ops();
  cells.push_back(plain(
      "rms_norm", n, 2 * n * d,
      [=, this, &ops](int64_t) { ops.rms_norm(n, d, a_.out, parameters_, c_.rms_eps, a_.x); }, a_.x,
      n * d));
  cells.push_back(plain(
      "add", n, 3 * n * d, [=, this, &ops](int64_t) { ops.add(n * d, a_.x, a_.out); }, a_.out,
      n * d));
  cells.push_back(plain(
      "rope_table", n, n * c_.rope_dim,
      [=, this, &ops](int64_t) {
        ops.rope_table(batch(n), rope_freq_, c_.rope_dim, a_.rope_compressed);
      },
      a_.rope_compressed, n * c_.rope_dim));
  cells.push_back(plain(
      "head_norm", n, 2 * n * heads,
      [=, this, &ops](int64_t) { ops.head_norm(n, c_.n_heads, c_.head_dim, c_.rms_eps, a_.q); },
      a_.q, n * heads));
  cells.push_back(plain(
      "rope_tail", n, 2 * n * int64_t{c_.n_heads} * c_.rope_dim,
      [=, this, &ops](int64_t) {
        ops.rope_tail(n, c_.n_heads, c_.head_dim, c_.rope_dim, a_.rope_compressed, true, a_.q);
      },
      a_.q, n * heads));
  cells.push_back(plain(
      "head_norm_rope", n, 2 * n * heads,
      [=, this, &ops](int64_t) {
        ops.head_norm_rope(n, c_.n_heads, c_.head_dim, c_.rope_dim, c_.rms_eps, a_.rope_compressed,
                           a_.q);
      },
      a_.q, n * heads));
  cells.push_back(plain(
      "swiglu", n, 3 * n * int64_t{c_.d_expert},
      [=, this, &ops](int64_t) {
        ops.swiglu(int64_t{n} * c_.d_expert, c_.swiglu_limit[0], a_.shared_up, a_.expert_hidden);
      },
      nullptr, 0));
  cells.push_back(plain(
      "route", n, n * int64_t{c_.n_experts},
      [=, this, &ops](int64_t) {
        ops.route(batch(n), a_.router, c_.n_experts, parameters_, nullptr, c_.n_experts_used,
                  c_.expert_scale, a_.expert_ids, a_.expert_weights);
      },
      a_.expert_weights, n * int64_t{c_.n_experts_used}));
  // Streams stand in for logits.
  const int64_t fitting = std::min(int64_t{max_rows_} * c_.n_hc * d / c_.n_vocab,
                                   int64_t{max_rows_} * heads * 4 / int64_t{sizeof(Candidates)});
  if (const int m = static_cast<int>(std::min<int64_t>(n, fitting)); m > 0)
    cells.push_back(plain(
        "best_logits", m, m * int64_t{c_.n_vocab},
        [=, this, &ops](int64_t) {
          ops.best_logits(m, c_.n_vocab, a_.X, reinterpret_cast<Candidates*>(a_.o));
        },
        nullptr, 0));
}

void OpsRig::cache_cells(int n, std::vector<Cell>& cells) {
  Ops& ops = backend_.ops();
  const int64_t dim = c_.head_dim;
  cells.push_back(plain(
      "encode_rows", n, n * dim,
      [=, this, &ops](int64_t) { ops.encode_rows(layout_.row, n, a_.kv, a_.kv_rows); }, nullptr,
      0));
  for (const int layer : {csa_, hca_}) {
    const LayerKv kv = layer_kv(c_, layout_, kv_, layer);
    const bool csa = c_.layers[layer] == LayerKind::kCsa;
    if (c_.layers[layer] == LayerKind::kSliding) continue;
    const CompressorParams p{static_cast<int>(c_.layers[layer]),
                             csa,
                             parameters_,
                             c_.rms_eps,
                             rope_freq_,
                             c_.rope_dim,
                             kv.k,
                             kv.s,
                             kv.rows};
    cells.push_back(plain(
        csa ? "compress_csa" : "compress_hca", n, 2 * n * p.width(),
        [=, this, &ops](int64_t) { ops.compress(batch(n), p, a_.k, a_.s); }, nullptr, 0));
  }
  const LayerKv kv = layer_kv(c_, layout_, kv_, csa_);
  cells.push_back(plain(
      "ring_store", n, n * int64_t{layout_.row.bytes()} / 2,
      [=, this, &ops](int64_t) { ops.ring_store(batch(n), kv.window, a_.kv_rows); }, nullptr, 0));
}

void OpsRig::index_cells(int n, std::vector<Cell>& cells) {
  if (c_.layers[csa_] != LayerKind::kCsa) return;
  Ops& ops = backend_.ops();
  const LayerKv kv = layer_kv(c_, layout_, kv_, csa_);
  const int m = std::min(n, a_.score_rows);
  const IndexParams p{c_.n_index_heads, c_.index_top_k, static_cast<int>(a_.max_index_rows),
                      a_.score_rows, kv.index_rows};
  const int64_t visible = visible_rows(ctx_ - 1, 4), dim = c_.index_dim;
  cells.push_back(plain(
      "index_query", n, 2 * n * int64_t{c_.n_index_heads} * dim,
      [=, this, &ops](int64_t) {
        ops.index_query(layout_.index_row, n, c_.n_index_heads, a_.index_q);
      },
      a_.index_q, n * int64_t{c_.n_index_heads} * dim));
  cells.push_back({"index_scores", "-", m, visible * layout_.index_row.bytes() + m * visible * 4,
                   m * visible * c_.n_index_heads * dim,
                   [=, this, &ops](int64_t) {
                     ops.index_scores(batch(m), p, a_.index_q, a_.index_w, a_.scores);
                   },
                   a_.scores, m * visible});
  cells.push_back(plain(
      "top_k", m, m * visible,
      [=, this, &ops](int64_t) { ops.top_k(batch(m), p, a_.scores, a_.selected, a_.n_selected); },
      nullptr, 0));
  cells.push_back({"index_select", "-", n,
                   visible * layout_.index_row.bytes() + 2 * int64_t{n} * visible * 4,
                   n * visible * c_.n_index_heads * dim,
                   [=, this, &ops](int64_t) {
                     ops.index_select(batch(n), p, a_.index_q, a_.index_w, a_.scores, a_.selected,
                                      a_.n_selected);
                   },
                   nullptr, 0});
}

void OpsRig::attention_cells(int n, std::vector<Cell>& cells) {
  Ops& ops = backend_.ops();
  const int64_t heads = int64_t{c_.n_heads} * c_.head_dim;
  const auto add = [&](const char* op, int layer, int64_t compressed) {
    const LayerKv kv = layer_kv(c_, layout_, kv_, layer);
    const bool chosen = c_.layers[layer] == LayerKind::kCsa && compressed > 0;
    const AttentionParams p{c_.n_heads,
                            c_.head_dim,
                            c_.window,
                            layout_.row,
                            a_.kv_rows,
                            kv.window,
                            compressed > 0 ? static_cast<int>(c_.layers[layer]) : 0,
                            kv.rows,
                            chosen ? a_.selected : nullptr,
                            chosen ? a_.n_selected : nullptr,
                            c_.index_top_k,
                            parameters_};
    const int64_t rows = c_.window + compressed;
    cells.push_back(
        {op, "-", n, (rows + n) * layout_.row.bytes() + 2 * n * heads * 4, 2 * n * rows * heads,
         [=, this, &ops](int64_t) { ops.attention(batch(n), p, a_.q, a_.o); }, a_.o, n * heads});
  };
  add("attention_window", csa_, 0);
  if (c_.layers[csa_] == LayerKind::kCsa) {
    // Rows spread over the sequence, as an indexer would choose them.
    const auto visible = visible_rows(ctx_ - n, 4);
    const auto k = static_cast<int32_t>(std::min<int64_t>(c_.index_top_k, visible));
    std::vector<int32_t> ids(int64_t{n} * c_.index_top_k), counts(n, k);
    for (int r = 0; r < n; r++)
      for (int32_t i = 0; i < k; i++)
        ids[int64_t{r} * c_.index_top_k + i] = static_cast<int32_t>(i * visible / k);
    backend_.copy_in(a_.selected, ids.data(), static_cast<int64_t>(ids.size()) * 4);
    backend_.copy_in(a_.n_selected, counts.data(), n * 4);
    add("attention_csa", csa_, k);
  }
  if (c_.layers[hca_] == LayerKind::kHca) add("attention_hca", hca_, visible_rows(ctx_ - 1, 128));
}

}  // namespace narwhal::bench
