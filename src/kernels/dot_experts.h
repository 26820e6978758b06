// Experts of few rows by integer products (dot.h): the routed ones alone or with the shared expert,
// whose weights are Q8_0, in the same launch.
#pragma once

#include "kernels/dot.h"

namespace narwhal {
namespace kernels {

struct NoCodec {};  // no shared expert
template <class C>
struct IsCodec {
  k_value bool kValue = true;
};
template <>
struct IsCodec<NoCodec> {
  k_value bool kValue = false;
};

// The lane's first units of its rows of the pairs (gate, up) from hidden value j on.
template <class Team, class C>
k_fn void hidden_rows(k_private const Group& g, k_private const Matrix& w1,
                      k_private const Matrix& w3, int64_t j, k_private Planes (&rows)[2]) {
  const int64_t row = min_long(j + Team::pair(g), w1.n_out - 1);
  const int units = int(w1.n_in) / C::kUnit;
  const Planes gate = planes_of<C>(w1, row), up = planes_of<C>(w3, row);
  const Planes of_gate = lane_planes<Team, C>(g, gate, units);
  const Planes of_up = lane_planes<Team, C>(g, up, units);
  rows[0] = of_gate;
  rows[1] = of_up;
}

// Hidden values of a tile, from j on, of one expert and row: as ExpertHidden. x null: the row is in
// shared memory.
template <class Team, class C, class S, class Table, int kUnits, int R>
k_fn void dot_hidden(k_private const Group& g, k_shared S* sh, k_shared const Table* table,
                     int turn, k_private typename C::Raw (&batch)[kUnits][R],
                     k_private const Planes (&rows)[R], k_private const Planes (&next)[R],
                     bool more, int64_t n_in, int64_t inner, k_device const float* x, float limit,
                     float weight, int64_t j, k_device float* hidden) {
  float acc[R][1];
  k_unroll for (int r = 0; r < R; r++) acc[r][0] = 0;
  dot_rows<Team, C, 1>(g, sh, table, batch, rows, next, more, int(n_in), x, 0, 1, acc);
  band_sum(Team(), g, sh, turn, acc);
  const int in_band = int(g.lane);
  const int64_t at = j + int(g.simd) / Team::kSimds * 8 + in_band;
  if (!is_first(Team(), g) || in_band >= 8 || at >= inner) return;
  const float gate = band_total(Team(), g, sh, turn, 1, 0, in_band);
  const float up = band_total(Team(), g, sh, turn, 1, 0, in_band + 8);
  hidden[at] = silu_clamped(gate, up, limit) * weight;
}

// Tiles of the shared expert, of fewer values so that nearly every group has one, then those of the
// routed pairs: a group takes every n_spread-th of either, or some would end much later. Without
// ids the routed expert is one, of weight 1.
template <class Team, class C, class Shared8>
struct DotHidden {
  typedef Band<8> SharedTeam;
  k_value int kThreads = kDotThreads, kResident = 2, kOutputs = Team::kPairs;
  k_value int R = Team::kRows;
  k_value bool kBeginsEarly = true;
  typedef DotShared<Team, C, 1> Shared;
  Matrix w1, w3, shared_w1, shared_w3;
  int n, k, n_spread;
  float limit;
  k_device const float* x;
  k_device const int32_t* ids;
  k_device const float* weights;
  k_device float* hidden;         // [n][k][inner]
  k_device float* shared_hidden;  // [n][shared inner]

  // Tiles of a row of the matrix, of so many values each.
  k_call int across(k_private const Matrix& w, int values) k_const {
    return int((w.n_out + values - 1) / values);
  }
  k_call int shared_tiles() k_const {
    return IsCodec<Shared8>::kValue ? n * across(shared_w1, SharedTeam::kPairs) : 0;
  }
  k_call int routed_tiles() k_const { return n * k * across(w1, kOutputs); }
  k_call int n_tiles() k_const { return shared_tiles() + routed_tiles(); }

  // Where a tile of the routed pairs is: in an expert's, whose number that is in its row.
  struct Place {
    int tile, nth, row;
  };
  k_call int pair_of(k_private const Place& at) k_const { return at.row * k + at.nth; }
  // n tiles further; divisions are slow, so the caller knows n / across and its remainder.
  k_call void advance(k_private Place& at, int wide, int experts, int tiles) k_const {
    at.tile += tiles;
    at.nth += experts;
    if (at.tile >= wide) {
      at.tile -= wide;
      at.nth++;
    }
    while (at.nth >= k) {
      at.nth -= k;
      at.row++;
    }
  }

  k_call void find(k_private const Group& g, k_private const Place& at,
                   k_private Planes (&rows)[R]) k_const {
    const int e = ids ? ids[pair_of(at)] : 0;
    const Matrix gate = expert_of(w1, e), up = expert_of(w3, e);
    hidden_rows<Team, C>(g, gate, up, int64_t(at.tile) * kOutputs, rows);
  }

  k_call void one_shared(k_private const Group& g, k_shared Shared* sh, int of, int turn,
                         k_private int* held) k_const {
    const int wide = across(shared_w1, SharedTeam::kPairs), r = of / wide;
    const int64_t j = int64_t(of % wide) * SharedTeam::kPairs, n_in = shared_w1.n_in;
    Planes rows[R];
    hidden_rows<SharedTeam, CodecQ8_0>(g, shared_w1, shared_w3, j, rows);
    CodecQ8_0::Raw batch[DotBatch<SharedTeam, CodecQ8_0, Shared>::kUnits][R];
    dot_load<SharedTeam, CodecQ8_0>(g, rows, 0, int(n_in) / CodecQ8_0::kUnit, batch);
    const bool there = *held == r && n_in <= Shared::kColumns;
    dot_hidden<SharedTeam, CodecQ8_0>(g, sh, static_cast<k_shared const NoTable*>(nullptr), turn,
                                      batch, rows, rows, false, n_in, shared_w1.n_out,
                                      there ? nullptr : x + r * n_in, limit, 1.0f, j,
                                      shared_hidden + r * shared_w1.n_out);
    *held = r;
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int n_shared = shared_tiles(), end = routed_tiles(), wide = across(w1, kOutputs);
    int held = -1, turn = 0;
    if (IsCodec<Shared8>::kValue)
      for (int of = int(g.group); of < n_shared; of += n_spread)
        one_shared(g, sh, of, turn++, &held);
    g.await_results();  // which experts were chosen
    if (int(g.group) >= end) return;
    const int experts = n_spread / wide, tiles = n_spread - experts * wide;
    Place place = {0, 0, 0};
    advance(place, wide, int(g.group) / wide, int(g.group) % wide);
    Planes rows[R], next[R];
    find(g, place, rows);
    typename C::Raw batch[DotBatch<Team, C, Shared>::kUnits][R];
    dot_load<Team, C>(g, rows, 0, int(w1.n_in) / C::kUnit, batch);
    load_table(g, &sh->table);
    for (int at = int(g.group); at < end; at += n_spread) {
      const Place here = place;
      const bool more = at + n_spread < end;
      if (more)
        advance(place, wide, experts, tiles);
      else
        g.release_next();  // the second half's groups wait for room
      find(g, place, next);
      const bool there = held == here.row && w1.n_in <= Shared::kColumns;
      const int pair = pair_of(here);
      dot_hidden<Team, C>(g, sh, &sh->table, turn++, batch, rows, next, more, w1.n_in, w1.n_out,
                          there ? nullptr : x + here.row * w1.n_in, limit,
                          ids ? weights[pair] : 1.0f, int64_t(here.tile) * kOutputs,
                          hidden + int64_t(pair) * w1.n_out);
      held = here.row;
      k_unroll for (int i = 0; i < R; i++) rows[i] = next[i];
    }
  }
};

// Outputs of a tile: as ExpertDown, plus the shared expert's. The row's experts, one after another,
// are one row of k * n_in columns.
template <class Team, class C, class Shared8>
struct DotDown {
  k_value int kThreads = kDotThreads, kResident = 2, kOutputs = Team::kOutputs;
  k_value int R = Team::kRows;
  k_value bool kBeginsEarly = true;
  typedef DotShared<Team, C, 1> Shared;
  k_value int kUnits = DotBatch<Team, C, Shared>::kUnits, kLanes = Team::kLanes;
  k_value int kSharedUnits = 2;  // beside the first of the routed experts in registers
  Matrix w2, shared_w2;
  int k;
  k_device const int32_t* ids;
  k_device const float* hidden;
  k_device const float* shared_hidden;
  k_device float* y;

  // A unit of the experts' rows: its number in that of the nth expert.
  struct Unit {
    int nth, at;
  };
  k_call void advance(k_private Unit& unit, int each, int n) k_const {
    unit.at += n;
    while (unit.at >= each) {  // rarely more than once; a division is slow
      unit.at -= each;
      unit.nth++;
    }
  }
  // This unit and those kLanes further, beyond the last that one; goes behind them. `rows` are
  // those of expert 0.
  k_call void load(k_shared const Shared* sh, k_private const Planes (&rows)[R],
                   k_private Unit& unit, k_private typename C::Raw (&batch)[kUnits][R]) k_const {
    const int each = int(w2.n_in) / C::kUnit;
    k_unroll for (int i = 0; i < kUnits; i++) {
      const bool beyond = unit.nth >= k;
      const int at = beyond ? each - 1 : unit.at;
      const int64_t skip = sh->experts[beyond ? k - 1 : unit.nth] * w2.expert_stride;
      k_unroll for (int r = 0; r < R; r++) {
        const Planes row = {rows[r].a + skip, rows[r].b + skip, rows[r].c + skip, 0};
        C::load(row, at, batch[i][r]);
      }
      advance(unit, each, kLanes);
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int tiles = int((w2.n_out + kOutputs - 1) / kOutputs), r = int(g.group) / tiles;
    const int64_t o = int64_t(int(g.group) % tiles) * kOutputs;
    const int all = k * int(w2.n_in), units = all / C::kUnit, slot = Team::slot(g);
    Planes rows[R], shared_rows[R];
    CodecQ8_0::Raw shared_batch[kSharedUnits][R];
    // Older than the launch of the first half, which awaited them.
    if (int(g.index) < k) sh->experts[g.index] = ids[r * k + int(g.index)];
    k_unroll for (int i = 0; i < R; i++) {
      const Planes row = planes_of<C>(w2, min_long(o + Team::row(g, i), w2.n_out - 1));
      rows[i] = row;
    }
    if (IsCodec<Shared8>::kValue) {
      k_unroll for (int i = 0; i < R; i++) {
        const Planes row =
            planes_of<CodecQ8_0>(shared_w2, min_long(o + Team::row(g, i), w2.n_out - 1));
        const Planes mine =
            lane_planes<Team, CodecQ8_0>(g, row, int(shared_w2.n_in) / CodecQ8_0::kUnit);
        shared_rows[i] = mine;
      }
      dot_load<Team, CodecQ8_0>(g, shared_rows, 0, int(shared_w2.n_in) / CodecQ8_0::kUnit,
                                shared_batch);
    }
    g.barrier();
    typename C::Raw batch[kUnits][R], coming[kUnits][R];
    Unit unit = {0, 0};
    advance(unit, int(w2.n_in) / C::kUnit, slot);
    load(sh, rows, unit, batch);
    load_table(g, &sh->table);
    float acc[R][1];
    k_unroll for (int i = 0; i < R; i++) acc[i][0] = 0;
    if (IsCodec<Shared8>::kValue)
      dot_rows<Team, CodecQ8_0, 1>(
          g, sh, static_cast<k_shared const NoTable*>(nullptr), shared_batch, shared_rows,
          shared_rows, false, int(shared_w2.n_in), shared_hidden + r * shared_w2.n_in, 0, 1, acc);
    const int step = kUnits * kLanes;
    int begin = 0;  // first column in shared memory
    for (int u = 0; u < units; u += step) {
      if (u * C::kUnit % Shared::kColumns == 0) {
        begin = u * C::kUnit;
        dot_inputs<1>(g, sh, hidden + int64_t(r) * all, 0, 1, begin,
                      min_int(Shared::kColumns, all - begin));
      }
      dot_copy(batch, coming);
      if (u + step < units) load(sh, rows, unit, coming);
      dot_batch<Team, C, 1>(g, sh, &sh->table, batch, u, units, begin, acc);
      dot_copy(coming, batch);
    }
    band_sum(Team(), g, sh, 0, acc);
    const int in_band = int(g.lane);
    const int64_t row = o + int(g.simd) / Team::kSimds * Team::kBandRows + in_band;
    if (is_first(Team(), g) && in_band < Team::kBandRows && row < w2.n_out)
      y[r * w2.n_out + row] = band_total(Team(), g, sh, 0, 1, 0, in_band);
  }
};

}  // namespace kernels
}  // namespace narwhal
